//! Entry points for fuzzing: both ways of decoding say the same, and neither exceeds its cap.
//!
//! They stand beside the code so that a fuzz target is one line; the property tests use them too.

use super::{Codings, stream::PieceDecoder};
use crate::reject::Reject;

const CAP: usize = 1 << 20;

/// Decodes a body as every coding and every two, and what it holds under checksums that are right.
pub fn fuzz_decode(data: &[u8]) {
    for listed in ["gzip", "deflate", "gzip, deflate", "deflate, deflate", "deflate, gzip"] {
        let _ = agreed(listed, data, CAP);
    }
    fuzz_checksums(data);
}

/// Takes the input for bare DEFLATE, and puts it under the checksums of gzip and of zlib: a decoder that looks at nothing
/// else would take what the other one refuses.
fn fuzz_checksums(stream: &[u8]) {
    // Two bytes that make it a zlib stream cannot begin a bare one.
    if super::inflate::is_zlib(stream) {
        return;
    }
    let bare = agreed("deflate", stream, CAP);
    let data = bare.as_deref().unwrap_or_default();
    for (listed, body) in [("deflate", zlib(stream, data)), ("gzip", gzip(stream, data))] {
        assert_eq!(agreed(listed, &body, CAP).is_ok(), bare.is_ok(), "the frame changes nothing: {listed}");
    }
}

/// A zlib stream with the checksum of this data.
pub(super) fn zlib(stream: &[u8], data: &[u8]) -> Vec<u8> {
    [&[0x78, 0x9c], stream, &libdeflater::adler32(data).to_be_bytes()].concat()
}

/// A gzip member with the checksum and the size of this data.
pub(super) fn gzip(stream: &[u8], data: &[u8]) -> Vec<u8> {
    let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    [&header, stream, &libdeflater::crc32(data).to_le_bytes(), &size.to_le_bytes()].concat()
}

/// Decodes at once, in steps, and as those do it who do not care which: the verdict of the steps, and what the others say
/// is the same. The codings have to be known ones, and one at least.
pub(super) fn agreed(listed: &str, body: &[u8], cap: usize) -> Result<Vec<u8>, Reject> {
    let codings = Codings::parse([listed.as_bytes()])?;
    let in_steps = in_steps(codings, body, cap);
    for piece_bytes in [1 + body.len() / 7, 64 * 1024] {
        let in_pieces = in_pieces(codings, body, piece_bytes, cap);
        assert_eq!(in_pieces.as_ref().ok(), in_steps.as_ref().ok(), "{listed}, in pieces of {piece_bytes}");
    }
    let mut out = b"what was here before".to_vec();
    let at_once = codings.decode_at_once(body, cap, &mut out);
    assert!(out.capacity() <= cap.max(20), "memory stays under the cap");
    if at_once {
        // A made checksum, over what the quick decoder takes reserved symbols for: see the module's documentation.
        let is_made = matches!(in_steps, Err(Reject::CorruptEncoding(what)) if what.contains("corrupt"));
        assert!(is_made || in_steps.as_ref() == Ok(&out), "{listed}: at once {}, in steps {in_steps:?}", out.len());
        return in_steps;
    }
    assert!(out.is_empty(), "nothing is left of what could not be decoded");
    let verdict = codings.decode(body, cap, &mut out);
    assert!(verdict.is_ok() || out.is_empty(), "nothing is left after an error");
    assert_eq!(verdict.map(|()| out), in_steps, "{listed}");
    in_steps
}

/// Decodes a body that comes in pieces of so many bytes.
fn in_pieces(codings: Codings, body: &[u8], piece_bytes: usize, cap: usize) -> Result<Vec<u8>, Reject> {
    let mut decoder = PieceDecoder::new(codings.applied.into_iter().flatten(), cap);
    let mut out = Vec::new();
    for piece in body.chunks(piece_bytes) {
        let mut taken = 0;
        loop {
            let step = decoder.step(piece.get(taken..).unwrap_or_default(), false, &mut out)?;
            taken += step.taken;
            if !step.has_moved {
                break;
            }
        }
        assert_eq!(taken, piece.len(), "what does not go on has taken everything");
    }
    while !decoder.step(b"", true, &mut out)?.is_complete {}
    Ok(out)
}

/// Decodes one step a turn.
fn in_steps(codings: Codings, body: &[u8], cap: usize) -> Result<Vec<u8>, Reject> {
    let mut decoder = codings.decoder(body, cap);
    let mut held = 0;
    let hold = |bytes, held: &mut usize| {
        *held = bytes;
        Ok(())
    };
    while !decoder.turn(|bytes| hold(bytes, &mut held), || true)? {
        assert!(held <= cap + 2 * (1 << 20), "memory stays near the cap: {held}");
    }
    let decoded = decoder.into_body();
    assert!(decoded.capacity() <= held, "{} of {held}", decoded.capacity());
    Ok(decoded)
}
