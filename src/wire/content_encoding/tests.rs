//! What decoding promises: the same bytes come out, nothing incomplete is taken, and no body grows beyond the cap.

use super::*;
use crate::{limits::GZIP_ENDS_TRIED_MAX, reject::SizeLimit, rt::clock};
use libdeflater::{CompressionLvl, Compressor};
use proptest::prelude::*;

const CAP: usize = 1 << 20;

fn gzip(data: &[u8]) -> Vec<u8> {
    gzip_at(data, 6)
}

fn gzip_at(data: &[u8], level: i32) -> Vec<u8> {
    let mut compressor = Compressor::new(CompressionLvl::new(level).expect("a level"));
    let mut out = vec![0; compressor.gzip_compress_bound(data.len())];
    let written = compressor.gzip_compress(data, &mut out).expect("room");
    out.truncate(written);
    out
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::new(CompressionLvl::default());
    let mut out = vec![0; compressor.zlib_compress_bound(data.len())];
    let written = compressor.zlib_compress(data, &mut out).expect("room");
    out.truncate(written);
    out
}

fn bare(data: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::new(CompressionLvl::default());
    let mut out = vec![0; compressor.deflate_compress_bound(data.len())];
    let written = compressor.deflate_compress(data, &mut out).expect("room");
    out.truncate(written);
    out
}

/// Decoded in every way: that is the same.
fn decoded(listed: &str, body: &[u8], cap: usize) -> Result<Vec<u8>, Reject> {
    let mut out = Vec::new();
    let is_identity = Codings::parse([listed.as_bytes()])?.is_identity();
    if is_identity { decode(listed, body, cap, &mut out).map(|()| out) } else { fuzz::agreed(listed, body, cap) }
}

fn decode(listed: &str, body: &[u8], cap: usize, out: &mut Vec<u8>) -> Result<(), Reject> {
    Codings::parse([listed.as_bytes()])?.decode(body, cap, out)
}

/// What the quick decoder makes of a body, if it takes it.
fn at_once(listed: &str, body: &[u8], cap: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let codings = Codings::parse([listed.as_bytes()]).expect("known codings");
    codings.decode_at_once(body, cap, &mut out).then_some(out)
}

/// Bytes that do not compress and do not repeat.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    })
    .take(length)
    .collect()
}

fn samples() -> Vec<Vec<u8>> {
    let event = br#"{"id":9007199254740993,"kind":"click","at":"2026-01-02T03:04:05Z","tags":["a","b"]}"#;
    vec![
        Vec::new(),
        vec![0],
        vec![0; 100],
        vec![0; 70_000],
        b"hello".to_vec(),
        event.repeat(500),
        noise(3_000),
        noise(100_000),
    ]
}

fn corrupt(verdict: &Result<Vec<u8>, Reject>) -> Option<&'static str> {
    match verdict {
        Err(Reject::CorruptEncoding(what)) => Some(what),
        _ => None,
    }
}

#[test]
fn what_was_encoded_comes_out() {
    for data in samples() {
        for (listed, body) in [
            ("", data.clone()),
            ("identity", data.clone()),
            ("gzip", gzip(&data)),
            ("x-gzip", gzip_at(&data, 0)),
            ("GZip", gzip_at(&data, 12)),
            (" gzip\t", gzip(&data)),
            ("identity, gzip,", gzip(&data)),
            ("deflate", zlib(&data)),
            ("Deflate", bare(&data)),
            ("gzip, gzip", gzip(&gzip(&data))),
            // The last that is listed was applied last.
            ("gzip, deflate", zlib(&gzip(&data))),
            ("deflate,gzip", gzip(&zlib(&data))),
            ("deflate , identity, deflate", bare(&zlib(&data))),
        ] {
            assert_eq!(decoded(listed, &body, CAP).as_ref(), Ok(&data), "{listed}, {} bytes", data.len());
        }
    }
}

#[test]
fn codings_are_known_before_the_body_is_read() {
    for (values, expect) in [
        (vec![], Ok(true)),
        (vec!["identity"], Ok(true)),
        (vec!["", " , ,"], Ok(true)),
        (vec!["gzip"], Ok(false)),
        (vec!["gzip", "deflate"], Ok(false)),
        (vec!["identity", "gzip, identity"], Ok(false)),
        (vec!["gzip, gzip, gzip"], Err(Reject::ContentEncoding)),
        (vec!["gzip", "gzip", "deflate"], Err(Reject::ContentEncoding)),
        (vec!["br"], Err(Reject::ContentEncoding)),
        (vec!["zstd"], Err(Reject::ContentEncoding)),
        (vec!["compress"], Err(Reject::ContentEncoding)),
        (vec!["gzip;q=1"], Err(Reject::ContentEncoding)),
        (vec!["gzip br"], Err(Reject::ContentEncoding)),
        (vec!["*"], Err(Reject::ContentEncoding)),
        (vec!["gzi"], Err(Reject::ContentEncoding)),
    ] {
        let parsed = Codings::parse(values.iter().map(|value| value.as_bytes()));
        assert_eq!(parsed.map(Codings::is_identity), expect, "{values:?}");
    }
}

#[test]
fn a_body_that_is_cut_off_anywhere_is_refused() {
    for data in samples().into_iter().filter(|data| data.len() < 5_000) {
        for (listed, body) in [("gzip", gzip(&data)), ("deflate", zlib(&data)), ("deflate", bare(&data))] {
            for length in 0..body.len() {
                let verdict = decoded(listed, &body[..length], CAP);
                assert!(corrupt(&verdict).is_some(), "{listed} of {} bytes, {length} of {}", data.len(), body.len());
            }
        }
    }
}

#[test]
fn a_body_with_something_behind_it_is_refused() {
    for data in samples() {
        for (listed, body) in [("gzip", gzip(&data)), ("deflate", zlib(&data)), ("deflate", bare(&data))] {
            let last = *body.last().expect("not empty");
            for garbage in
                [&[0][..], &[last], b"x", b"\n", &[0; 512], &[0x1f], &[0x1f, 0x8b, 8], &body[..body.len() - 1]]
            {
                let followed = [&body, garbage].concat();
                assert!(corrupt(&decoded(listed, &followed, CAP)).is_some(), "{listed} of {} bytes", data.len());
            }
        }
        let doubled = zlib(&data).repeat(2);
        assert!(corrupt(&decoded("deflate", &doubled, CAP)).is_some(), "zlib has no members");
    }
}

#[test]
fn a_trailer_that_is_not_right_behind_the_stream_is_refused() {
    let data = b"some data that compresses, some data that compresses";
    for (listed, body, trailer) in [("gzip", gzip(data), 8), ("deflate", zlib(data), 4)] {
        let (stream, end) = body.split_at(body.len() - trailer);
        for between in [&[0][..], &[0; 8], end, b"x"] {
            let moved = [stream, between, end].concat();
            assert!(corrupt(&decoded(listed, &moved, CAP)).is_some(), "{listed} {between:?}");
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed_or_changes_nothing() {
    let data = br#"{"id":1,"name":"a name","list":[1,2,3,4,5,6,7,8]}"#.repeat(3);
    for (listed, body) in [("gzip", gzip(&data)), ("deflate", zlib(&data))] {
        let mut refused = 0;
        for bit in 0..body.len() * 8 {
            let mut flipped = body.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match decoded(listed, &flipped, CAP) {
                Ok(out) => assert_eq!(out, data, "{listed} bit {bit}"),
                Err(_) => refused += 1,
            }
        }
        // What may change: in gzip's header the time, the extra flags, the system and the hint that it is text; and the
        // padding behind the last block.
        assert!(refused >= body.len() * 8 - (32 + 8 + 8 + 1 + 7), "{listed}: {refused} of {}", body.len() * 8);
    }
}

#[test]
fn members_follow_each_other() {
    let parts = samples();
    let members: Vec<Vec<u8>> = parts.iter().map(|part| gzip(part)).collect();
    assert_eq!(decoded("gzip", &members.concat(), CAP), Ok(parts.concat()));
    let last_first: Vec<Vec<u8>> = members.iter().rev().cloned().collect();
    let expect: Vec<Vec<u8>> = parts.iter().rev().cloned().collect();
    assert_eq!(decoded("gzip", &last_first.concat(), CAP), Ok(expect.concat()));
    // Equal members: the first one's trailer is also the body's last bytes.
    assert_eq!(decoded("gzip", &gzip(b"same").repeat(3), CAP), Ok(b"same".repeat(3)));
    assert_eq!(decoded("gzip", &gzip(b"").repeat(50), CAP), Ok(Vec::new()));
    let followed = [gzip(b"a"), b"tail".to_vec()].concat();
    assert_eq!(
        decoded("gzip", &followed, CAP),
        Err(Reject::CorruptEncoding("the gzip data is followed by something else"))
    );
}

#[test]
fn members_that_are_cut_off_are_refused_unless_they_end_where_a_member_ends() {
    let (one, two) = (gzip(b"the first"), gzip(b"the second"));
    let body = [one.clone(), two].concat();
    for length in 0..body.len() {
        let expect = (length == one.len()).then(|| b"the first".to_vec());
        assert_eq!(decoded("gzip", &body[..length], CAP).ok(), expect, "{length}");
    }
}

/// A member with every optional part of the header.
fn member_with_everything(data: &[u8], checksum_is_right: bool) -> Vec<u8> {
    let plain = gzip(data);
    let mut member = vec![0x1f, 0x8b, 8, 2 | 4 | 8 | 16, 1, 2, 3, 4, 0, 3];
    member.extend_from_slice(&[5, 0, b'e', 0, b't', b'r', b'a']);
    member.extend_from_slice(b"name.json\0a comment\0");
    let [low, high, ..] = libdeflater::crc32(&member).to_le_bytes();
    member.extend_from_slice(&[low ^ u8::from(!checksum_is_right), high]);
    member.extend_from_slice(&plain[10..]);
    member
}

#[test]
fn optional_parts_of_a_header_are_read_and_checked() {
    let member = member_with_everything(b"data", true);
    assert_eq!(decoded("gzip", &member, CAP), Ok(b"data".to_vec()));
    assert_eq!(decoded("gzip", &member.repeat(2), CAP), Ok(b"datadata".to_vec()));
    assert!(corrupt(&decoded("gzip", &member_with_everything(b"data", false), CAP)).is_some());
    for length in 0..member.len() {
        assert!(corrupt(&decoded("gzip", &member[..length], CAP)).is_some(), "{length}");
    }
    for flags in [0x20, 0x40, 0x80] {
        let mut reserved = gzip(b"data");
        reserved[3] = flags;
        assert!(corrupt(&decoded("gzip", &reserved, CAP)).is_some());
    }
}

#[test]
fn the_cap_is_exact() {
    let data = noise(5_000);
    let two_members = [gzip(&data[..2_000]), gzip(&data[2_000..])].concat();
    let bodies = [
        ("", data.clone()),
        ("gzip", gzip(&data)),
        ("gzip", two_members),
        ("deflate", zlib(&data)),
        ("deflate", bare(&data)),
    ];
    for (listed, body) in bodies {
        assert_eq!(decoded(listed, &body, 5_000).as_ref(), Ok(&data), "{listed}");
        for cap in [4_999, 2_000, 1, 0] {
            let expect = Err(Reject::TooLarge(SizeLimit::Inflated, cap as u64));
            assert_eq!(decoded(listed, &body, cap), expect, "{listed} {cap}");
        }
    }
    let empty = [gzip(b""), gzip(&[])].concat();
    assert_eq!(decoded("gzip", &empty, 0), Ok(Vec::new()));
    // Between two codings the cap holds too: what is small in the end was large in between.
    let stored_twice = gzip(&gzip_at(&data, 0));
    assert_eq!(decoded("gzip, gzip", &stored_twice, 5_000), Err(Reject::TooLarge(SizeLimit::Inflated, 5_000)));
}

#[test]
fn a_bomb_is_stopped_at_the_cap_in_length_and_in_memory() {
    let zeros = vec![0; 64 << 20];
    let bombs = [("gzip", gzip(&zeros)), ("deflate", zlib(&zeros)), ("deflate", bare(&zeros))];
    for (listed, bomb) in bombs {
        let mut out = Vec::new();
        let verdict = decode(listed, &bomb, CAP, &mut out);
        assert_eq!(verdict, Err(Reject::TooLarge(SizeLimit::Inflated, CAP as u64)), "{listed}");
        assert!(out.capacity() <= CAP, "{listed}: {}", out.capacity());
        let twice = gzip(&bomb);
        let listed_twice = format!("{listed}, gzip");
        assert!(decode(&listed_twice, &twice, CAP, &mut out).is_err());
        assert!(out.capacity() <= CAP);
    }
    // What it claims makes no difference.
    let mut liar = gzip(&zeros);
    let size_at = liar.len() - 4;
    liar[size_at..].copy_from_slice(&5_u32.to_le_bytes());
    assert_eq!(decoded("gzip", &liar, CAP), Err(Reject::TooLarge(SizeLimit::Inflated, CAP as u64)));
}

#[test]
fn a_claimed_size_does_not_reserve_memory() {
    let cap = 64 << 20;
    for claimed in [u32::MAX, 64 << 20, 63 << 20, 1 << 20] {
        let mut body = gzip(&noise(900));
        let size_at = body.len() - 4;
        body[size_at..].copy_from_slice(&claimed.to_le_bytes());
        let mut out = Vec::new();
        assert!(decode("gzip", &body, cap, &mut out).is_err(), "{claimed}");
        assert!(out.capacity() <= 32 * 1_024, "{claimed}: {} bytes", out.capacity());
    }
}

#[test]
fn many_small_members_take_time_in_proportion() {
    let body = gzip(b"x").repeat(20_000);
    let begun = clock::now();
    assert_eq!(decoded("gzip", &body, CAP), Ok(vec![b'x'; 20_000]));
    // And a last member that claims much must not make each of them reserve it.
    let mut liar = body;
    let size_at = liar.len() - 4;
    liar[size_at..].copy_from_slice(&(1_u32 << 19).to_le_bytes());
    assert!(corrupt(&decoded("gzip", &liar, CAP)).is_some());
    assert!(clock::since(begun).as_secs() < 10, "{:?}", clock::since(begun));
}

#[test]
fn a_stream_that_holds_its_own_checksum_is_decoded() {
    // Stored blocks hold the data as it is. The data is made to begin with its own Adler-32: sums are linear, so a
    // search over two free bytes and a correction finds one quickly.
    let found = (0..=u16::MAX).find_map(|free| {
        let [one, two] = free.to_be_bytes();
        let guess = |first: [u8; 4]| [&first[..], &[one, two], b"padding"].concat();
        let mut first = [0; 4];
        for _ in 0..64 {
            let sum = libdeflater::adler32(&guess(first)).to_be_bytes();
            if sum == first {
                return Some(guess(first));
            }
            first = sum;
        }
        None
    });
    let data = found.expect("some data begins with its own checksum");
    let sum = libdeflater::adler32(&data).to_be_bytes();
    let length = u16::try_from(data.len()).expect("short");
    let [low, high] = length.to_le_bytes();
    let stored = [&[0x78, 0x01, 1, low, high, !low, !high][..], &data, &sum].concat();
    assert_eq!(decoded("deflate", &stored, CAP), Ok(data.clone()));
    assert!(corrupt(&decoded("deflate", &[&stored[..], &sum].concat(), CAP)).is_some());
}

/// Data that holds the trailer of its own gzip member this many times. A CRC is affine in the bits of the data,
/// so the checksum that stands for itself is the solution of 32 linear equations.
fn data_with_its_own_trailer(copies: usize) -> Vec<u8> {
    let with = |sum: u32, padding: usize| {
        let size = u32::try_from(copies * 8 + padding).expect("short");
        [[sum.to_le_bytes(), size.to_le_bytes()].concat().repeat(copies), vec![b'.'; padding]].concat()
    };
    let solution = (1..100).find_map(|padding| {
        let constant = libdeflater::crc32(&with(0, padding));
        // Each row: which bits of the sum change an equation's left side, and that side itself in bit 32.
        let column = |bit: u32| libdeflater::crc32(&with(1 << bit, padding)) ^ constant ^ 1 << bit;
        let equation = |row: u32| {
            (0..32).fold(u64::from(constant >> row & 1) << 32, |equation, bit| {
                equation | u64::from(column(bit) >> row & 1) << bit
            })
        };
        let mut rows: Vec<u64> = (0..32).map(equation).collect();
        for bit in 0..32 {
            let pivot = (bit..32).find(|row| rows[*row] >> bit & 1 == 1)?;
            rows.swap(bit, pivot);
            let pivot = rows[bit];
            for (row, equation) in rows.iter_mut().enumerate() {
                if row != bit && *equation >> bit & 1 == 1 {
                    *equation ^= pivot;
                }
            }
        }
        let sum = rows.iter().enumerate().fold(0, |sum, (bit, row)| sum | u32::from(row >> 32 == 1) << bit);
        Some(with(sum, padding))
    });
    let data = solution.expect("one of the lengths has a solution");
    let trailer = [libdeflater::crc32(&data).to_le_bytes(), u32::try_from(data.len()).expect("short").to_le_bytes()];
    assert!(data.starts_with(&trailer.concat()), "the data holds its trailer");
    data
}

/// A member that holds the data in a stored block, byte for byte.
fn stored(data: &[u8]) -> Vec<u8> {
    let [low, high] = u16::try_from(data.len()).expect("short").to_le_bytes();
    let block = [1, low, high, !low, !high];
    let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let sum = libdeflater::crc32(data).to_le_bytes();
    [&header[..], &block, data, &sum, &[low, high, 0, 0]].concat()
}

#[test]
fn a_member_that_holds_its_own_trailer_ends_where_it_ends() {
    for copies in 1..GZIP_ENDS_TRIED_MAX {
        let data = data_with_its_own_trailer(copies);
        let member = stored(&data);
        assert_eq!(decoded("gzip", &member, CAP).as_ref(), Ok(&data), "{copies}");
        let among = [gzip(b"before"), member.clone(), gzip(b"behind")].concat();
        assert_eq!(decoded("gzip", &among, CAP), Ok([b"before", data.as_slice(), b"behind"].concat()), "{copies}");
        assert!(corrupt(&decoded("gzip", &member[..member.len() - 1], CAP)).is_some());
        assert!(corrupt(&decoded("gzip", &[member.as_slice(), b"x"].concat(), CAP)).is_some());
    }
    // One that was made to be decoded over and over; in steps, each byte is decoded once.
    let data = data_with_its_own_trailer(1_000);
    let crafted = stored(&data);
    assert_eq!(at_once("gzip", &crafted, CAP), None);
    assert_eq!(decoded("gzip", &crafted, CAP), Ok(data));
}

#[test]
fn an_empty_member_is_found_whatever_its_block() {
    let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    for block in
        [&[3, 0][..], &[1, 0, 0, 0xff, 0xff], &[0, 0, 0, 0xff, 0xff, 3, 0], &[0, 0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff]]
    {
        let member = [&header[..], block, &[0; 8]].concat();
        assert_eq!(decoded("gzip", &member, CAP), Ok(Vec::new()), "{block:?}");
        assert_eq!(decoded("gzip", &[member.repeat(3), gzip(b"x"), member.clone()].concat(), CAP), Ok(b"x".to_vec()));
        assert!(corrupt(&decoded("gzip", &member[..member.len() - 1], CAP)).is_some(), "{block:?}");
        assert!(corrupt(&decoded("gzip", &[member.as_slice(), &[0]].concat(), CAP)).is_some(), "{block:?}");
    }
}

/// Bits in the order of RFC 1951, section 3.1.1.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    count: usize,
}

impl Bits {
    /// Numbers begin with their lowest bit.
    fn number(mut self, value: u32, bits: u32) -> Self {
        for bit in 0..bits {
            if self.count.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let last = self.bytes.last_mut().expect("just made");
            *last |= u8::from(value >> bit & 1 == 1) << (self.count % 8);
            self.count += 1;
        }
        self
    }

    /// Codes begin with their highest bit.
    fn code(self, code: u32, bits: u32) -> Self {
        self.number(code.reverse_bits() >> (32 - bits), bits)
    }

    /// A literal or a length in the fixed code (section 3.2.6).
    fn symbol(self, symbol: u32) -> Self {
        match symbol {
            0..=143 => self.code(0x30 + symbol, 8),
            144..=255 => self.code(0x190 + symbol - 144, 9),
            256..=279 => self.code(symbol - 256, 7),
            _ => self.code(0xc0 + symbol - 280, 8),
        }
    }

    /// A distance of one byte.
    fn distance_one(self) -> Self {
        self.code(0, 5)
    }
}

/// One byte in the fixed code, and behind it this length.
fn byte_and_length(symbol: u32) -> Vec<u8> {
    Bits::default().number(0b011, 3).symbol(u32::from(b'a')).symbol(symbol).distance_one().symbol(256).bytes
}

/// One byte, repeated until every distance is within the data, and behind it three bytes from this distance.
fn distance(symbol: u32) -> Vec<u8> {
    let begin = Bits::default().number(0b011, 3).symbol(u32::from(b'a'));
    let long = (0..96).fold(begin, |bits, _| bits.symbol(285).distance_one());
    long.symbol(257).code(symbol, 5).number(0, 13).symbol(256).bytes
}

/// One byte, and behind it three bytes from a distance for which there is no code.
fn distance_without_code() -> Vec<u8> {
    // 258 symbols, one distance, 18 lengths of the code that tells their lengths: its symbols 18, 0, 2 and 1 have two bits.
    let begin = Bits::default().number(0b101, 3).number(1, 5).number(0, 5).number(14, 4);
    let lengths = (0..18).fold(begin, |bits, at| bits.number(if matches!(at, 2 | 3 | 15 | 17) { 2 } else { 0 }, 3));
    let zeros = |bits: Bits, count: u32| bits.code(3, 2).number(count - 11, 7);
    let byte = zeros(lengths, u32::from(b'a')).code(2, 2);
    let end = zeros(zeros(byte, 138), 20).code(2, 2);
    let three = end.code(1, 2);
    let no_distance = three.code(0, 2);
    no_distance.code(0b10, 2).code(0, 1).code(0, 1).code(0b11, 2).bytes
}

#[test]
fn reserved_symbols_are_refused() {
    assert_eq!(decoded("deflate", &byte_and_length(285), CAP), Ok(vec![b'a'; 259]));
    assert_eq!(decoded("deflate", &distance(29), CAP), Ok(vec![b'a'; 1 + 96 * 258 + 3]));
    // The symbols that "will never actually occur in the compressed data" (RFC 1951, section 3.2.6), here in four
    // bytes of fixed codes.
    assert_eq!(byte_and_length(286), [0x4b, 0x1c, 0x03, 0x00]);
    let streams =
        [286, 287].map(byte_and_length).into_iter().chain([30, 31].map(distance)).chain([distance_without_code()]);
    for (index, stream) in streams.enumerate() {
        assert!(corrupt(&decoded("deflate", &stream, CAP)).is_some(), "{index}");
        assert!(corrupt(&decoded("deflate, gzip", &gzip(&stream), CAP)).is_some(), "{index}");
        assert_eq!(at_once("deflate", &stream, CAP), None, "{index}");
    }
}

/// What the module's documentation says: who makes the checksum right is taken at once, with what libdeflate makes of it.
#[test]
fn reserved_symbols_under_a_made_checksum_are_for_the_steps_to_refuse() {
    let lengths = [286, 287].map(|symbol| (byte_and_length(symbol), vec![b'a'; 259]));
    for (stream, data) in lengths.into_iter().chain([(distance_without_code(), vec![b'a'; 4])]) {
        for (listed, body) in [("deflate", fuzz::zlib(&stream, &data)), ("gzip", fuzz::gzip(&stream, &data))] {
            assert!(corrupt(&decoded(listed, &body, CAP)).is_some(), "{listed} {stream:?}");
            assert_eq!(at_once(listed, &body, CAP).as_ref(), Some(&data), "{listed} {stream:?}");
        }
    }
}

/// Streams that are nearly right: an encoder's, with some bits flipped, and codes that nobody chose.
fn nearly_right() -> impl Strategy<Value = Vec<u8>> {
    let data = prop::collection::vec(prop_oneof![8 => Just(b'a'), 4 => b'a'..=b'f', 1 => any::<u8>()], 0..600);
    let encoded = (data, prop::collection::vec(any::<prop::sample::Index>(), 0..3)).prop_map(|(data, flips)| {
        let mut stream = bare(&data);
        for flip in flips {
            let bit = flip.index(stream.len() * 8);
            stream[bit / 8] ^= 1 << (bit % 8);
        }
        stream
    });
    let symbol = prop_oneof![3 => 0_u32..256, 2 => 257_u32..265, 1 => 284_u32..288];
    let codes = prop::collection::vec((symbol, prop_oneof![4 => Just(0_u32), 1 => 0_u32..32]), 0..40);
    let fixed = codes.prop_map(|codes| {
        let begin = Bits::default().number(0b011, 3);
        let body = codes.into_iter().fold(begin, |bits, (symbol, distance)| {
            let bits = bits.symbol(symbol);
            if symbol > 256 { bits.code(distance, 5) } else { bits }
        });
        body.symbol(256).bytes
    });
    prop_oneof![encoded, fixed]
}

proptest! {
    #[test]
    fn any_data_comes_through_any_coding(
        parts in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'a'), any::<u8>()], 0..600), 1..4),
        level in 0..=12,
        cap in 0..2_000_usize,
    ) {
        let data = parts.concat();
        let members: Vec<u8> = parts.iter().flat_map(|part| gzip_at(part, level)).collect();
        let expect = if data.len() <= cap { Ok(data.clone()) } else { Err(Reject::TooLarge(SizeLimit::Inflated, cap as u64)) };
        prop_assert_eq!(&decoded("gzip", &members, cap), &expect);
        prop_assert_eq!(&decoded("deflate", &zlib(&data), cap), &expect);
        prop_assert_eq!(&decoded("deflate", &bare(&data), cap), &expect);
    }

    #[test]
    fn no_bytes_panic_or_exceed_the_cap(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        at in any::<prop::sample::Index>(),
    ) {
        fuzz_decode(&bytes);
        for whole in [gzip(&bytes), zlib(&bytes), bare(&bytes), member_with_everything(&bytes, true)] {
            let mut spoiled = whole.clone();
            let place = at.index(spoiled.len());
            spoiled[place] ^= bytes.first().copied().unwrap_or(1);
            fuzz_decode(&spoiled);
            fuzz_decode(&[whole, spoiled, bytes.clone()].concat());
        }
    }

    #[test]
    fn a_checksum_that_is_right_changes_no_verdict(
        streams in prop::collection::vec(nearly_right(), 1..4),
        behind in prop_oneof![4 => Just(vec![]), 1 => prop::collection::vec(any::<u8>(), 1..12)],
        cut in prop_oneof![4 => Just(0_usize), 1 => 1_usize..12],
    ) {
        let mut members = Vec::new();
        for stream in &streams {
            fuzz_decode(stream);
            let data = decoded("deflate", stream, CAP).unwrap_or_default();
            members.extend(fuzz::gzip(stream, &data));
        }
        members.extend(behind);
        members.truncate(members.len() - cut.min(members.len()));
        fuzz_decode(&members);
    }
}
