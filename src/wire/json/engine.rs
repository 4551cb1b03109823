//! Which implementation of the splitter runs: chosen by what the processor has, once.

use super::{SplitLimits, reference};
#[cfg(target_arch = "x86_64")]
use super::{
    avx2::Avx2,
    avx512::Avx512,
    blocks::Job,
    scalar::{Nesting, skip_space},
};
use crate::{reject::Reject, wire::Span};
use std::sync::OnceLock;

/// One implementation. All give the same spans, offsets and reasons; only tests and benchmarks choose one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Engine(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The reference, and what runs where there is nothing better.
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Engine {
    /// The fastest that the processor can run.
    pub(super) fn best() -> Self {
        static BEST: OnceLock<Engine> = OnceLock::new();
        *BEST.get_or_init(|| Self::all().last().copied().unwrap_or(Self(Kind::Scalar)))
    }

    /// All that the processor can run, the scalar one first and the fastest last.
    #[must_use]
    pub fn all() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        let vector = [Avx2::new().map(Kind::Avx2), Avx512::new().map(Kind::Avx512)];
        #[cfg(not(target_arch = "x86_64"))]
        let vector = [None];
        std::iter::once(Kind::Scalar).chain(vector.into_iter().flatten()).map(Self).collect()
    }

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => "avx512",
        }
    }

    /// See [`super::split`].
    pub fn split(self, body: &[u8], limits: &SplitLimits, out: &mut Vec<Span>) -> Result<(), Reject> {
        match self.split_at_once(body, limits, out) {
            Some(()) => Ok(()),
            None => reference::split(body, limits, out),
        }
    }

    /// Cuts newline-delimited JSON into its lines: one span a line, without the white space around its value. Blank lines
    /// are skipped, `\r\n` ends a line as `\n` does, and the last line needs no end.
    ///
    /// Errors as of [`super::split`], offsets in `body`. After an error `out` is empty.
    pub fn split_lines(self, body: &[u8], limits: &SplitLimits, out: &mut Vec<Span>) -> Result<(), Reject> {
        match self.split_lines_at_once(body, limits, out) {
            Some(()) => Ok(()),
            None => reference::split_lines(body, limits, out),
        }
    }

    /// [`Self::split`] without the reference: `None` where that must find out what is wrong, as the scalar engine
    /// always must. What is in `out` then means nothing.
    pub(super) fn split_at_once(self, body: &[u8], limits: &SplitLimits, out: &mut Vec<Span>) -> Option<()> {
        #[cfg(target_arch = "x86_64")]
        {
            let open = skip_space(body, 0);
            if body.get(open) == Some(&b'[') {
                return self.scan::<false>(body, open + 1, limits, out);
            }
        }
        None
    }

    /// [`Self::split_lines`], likewise.
    pub(super) fn split_lines_at_once(self, body: &[u8], limits: &SplitLimits, out: &mut Vec<Span>) -> Option<()> {
        #[cfg(target_arch = "x86_64")]
        return self.scan::<true>(body, 0, limits, out);
        #[cfg(not(target_arch = "x86_64"))]
        None
    }

    /// The spans, if all is well; else what is in `out` means nothing, and the reference finds out why.
    #[cfg(target_arch = "x86_64")]
    fn scan<const LINES: bool>(
        self,
        body: &[u8],
        from: usize,
        limits: &SplitLimits,
        out: &mut Vec<Span>,
    ) -> Option<()> {
        // Offsets must fit, those just behind the padded end as well.
        u32::try_from(body.len().checked_add(64)?).ok()?;
        out.clear();
        let nesting = Nesting::new(limits.depth_max);
        let mut job = Job { body, from, records_max: limits.records_max, nesting, out };
        match self.0 {
            Kind::Scalar => None,
            Kind::Avx2(lanes) => lanes.scan::<LINES>(&mut job),
            Kind::Avx512(lanes) => lanes.scan::<LINES>(&mut job),
        }
    }
}
