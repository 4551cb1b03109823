//! One connection of the generator: the requests without an answer, and what is still to be written.
//!
//! It never blocks. Readiness is edge-triggered, so reading and writing go on until the kernel has no more.

use super::{
    count::ElementCount,
    request::Encoder,
    response::{Event, ResponseParser},
    schedule::{Nanos, Start},
    tally::Failure,
};
use mio::net::TcpStream;
use std::{
    collections::VecDeque,
    io::{ErrorKind, IoSlice, Read, Write},
};

/// A connection and the requests on it. `'a` is the life of the bodies.
pub(super) struct Connection<'a> {
    stream: Option<TcpStream>,
    phase: Phase,
    parser: ResponseParser,
    elements: ElementCount,
    /// Bytes so far of the body of the answer that is coming.
    body_bytes: u64,
    in_flight: VecDeque<InFlight>,
    out: Vec<u8>,
    out_at: usize,
    /// Is written behind `out`.
    body: Option<&'a [u8]>,
    body_at: usize,
    /// Whether an answer has come on this connection. If so, it is worth connecting again at once.
    pub(super) has_served: bool,
}

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It takes requests.
    Open,
    /// The kernel is connecting it.
    Connecting,
    /// It has no socket.
    Down,
}

/// A request without an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct InFlight {
    /// When it began, and whether it is measured.
    pub(super) start: Start,
    /// When it was handed to the connection.
    pub(super) sent: Nanos,
    records: u32,
    payload_bytes: u64,
}

/// A request that was answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answered {
    /// When it began, and whether it is measured.
    pub(super) start: Start,
    /// Status of the answer.
    pub(super) status: u16,
    /// Records sent, or found in the answer.
    pub(super) records: u64,
    /// Payload bytes sent, or bytes of the answer's body.
    pub(super) payload_bytes: u64,
}

/// The outcome of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// Everything that had come was read.
    Drained,
    /// The server has said that it will close: no request may follow.
    Closing,
}

impl<'a> Connection<'a> {
    /// A connection that is established.
    pub(super) fn open(stream: TcpStream) -> Self {
        Self { stream: Some(stream), phase: Phase::Open, ..Self::empty() }
    }

    /// Returns the state of the connection.
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Returns the socket, to register it.
    pub(super) fn stream(&mut self) -> Option<&mut TcpStream> {
        self.stream.as_mut()
    }

    /// Returns whether another request may be given to the connection.
    pub(super) fn has_room(&self, pipeline: usize) -> bool {
        self.phase == Phase::Open && self.body.is_none() && self.in_flight.len() < pipeline
    }

    /// Returns the request that has waited longest.
    pub(super) fn oldest(&self) -> Option<&InFlight> {
        self.in_flight.front()
    }

    /// Takes a request. It is not written before [`Self::flush`].
    pub(super) fn take(&mut self, start: Start, now: Nanos, encoder: &mut Encoder<'a>) {
        let encoded = encoder.next_into(&mut self.out);
        self.body = encoded.body;
        let (records, payload_bytes) = (encoded.records, encoded.payload_bytes);
        self.in_flight.push_back(InFlight { start, sent: now, records, payload_bytes });
    }

    /// Writes as much as the kernel takes.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        let Some(stream) = self.stream.as_mut() else { return Ok(()) };
        loop {
            let head = self.out.get(self.out_at..).unwrap_or_default();
            let body = self.body.and_then(|body| body.get(self.body_at..)).unwrap_or_default();
            if head.is_empty() && body.is_empty() {
                break;
            }
            let written = if body.is_empty() {
                stream.write(head)
            } else {
                stream.write_vectored(&[IoSlice::new(head), IoSlice::new(body)])
            };
            match written {
                Ok(count) => {
                    let of_head = count.min(head.len());
                    self.out_at += of_head;
                    self.body_at += count - of_head;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Failure::Closed),
            }
        }
        self.out.clear();
        (self.out_at, self.body, self.body_at) = (0, None, 0);
        Ok(())
    }

    /// Reads what has come and gives `sink` the answers in it. With `to_end`, reads up to the end of the stream, which
    /// the kernel has announced.
    pub(super) fn receive(
        &mut self,
        scratch: &mut [u8],
        to_end: bool,
        mut sink: impl FnMut(Answered),
    ) -> Result<Received, Failure> {
        let Some(stream) = self.stream.as_mut() else { return Ok(Received::Drained) };
        let (in_flight, elements, body_bytes) = (&mut self.in_flight, &mut self.elements, &mut self.body_bytes);
        let (mut closing, mut surplus) = (false, false);
        loop {
            let read = match stream.read(scratch) {
                Ok(0) => return Err(Failure::Closed),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Received::Drained),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Err(Failure::Closed),
            };
            let input = scratch.get(..read).unwrap_or_default();
            let parsed = self.parser.feed(input, |event| match event {
                Event::Body(bytes) => {
                    *body_bytes += bytes.len() as u64;
                    if in_flight.front().is_some_and(|request| request.records == 0) {
                        elements.feed(bytes);
                    }
                }
                Event::End { status, close } => {
                    closing |= close;
                    let Some(request) = in_flight.pop_front() else {
                        surplus = true;
                        return;
                    };
                    let found = elements.take();
                    let fetched = request.records == 0;
                    sink(Answered {
                        start: request.start,
                        status,
                        records: if fetched { found } else { u64::from(request.records) },
                        payload_bytes: if fetched { *body_bytes } else { request.payload_bytes },
                    });
                    *body_bytes = 0;
                    self.has_served = true;
                }
            });
            if parsed.is_err() || surplus {
                return Err(Failure::Protocol);
            }
            if closing {
                return Ok(Received::Closing);
            }
            if read < scratch.len() && !to_end {
                return Ok(Received::Drained);
            }
        }
    }

    /// Closes the socket. Returns the requests that have no answer.
    pub(super) fn drop_stream(&mut self) -> impl Iterator<Item = InFlight> + use<> {
        let in_flight = std::mem::take(&mut self.in_flight);
        *self = Self { stream: None, phase: Phase::Down, out: std::mem::take(&mut self.out), ..Self::empty() };
        self.out.clear();
        in_flight.into_iter()
    }

    /// Starts again on `stream`, which the kernel is connecting.
    pub(super) fn connecting(&mut self, stream: TcpStream) {
        self.stream = Some(stream);
        self.phase = Phase::Connecting;
    }

    /// Returns whether the connection is established by now. The error says that it failed.
    pub(super) fn connected(&mut self) -> Result<bool, Failure> {
        let Some(stream) = self.stream.as_ref() else { return Ok(false) };
        match stream.take_error() {
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => return Err(Failure::Connect),
        }
        match stream.peer_addr() {
            Ok(_) => {
                // A delayed small write would be measured as the server's latency.
                stream.set_nodelay(true).map_err(|_| Failure::Connect)?;
                self.phase = Phase::Open;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(_) => Err(Failure::Connect),
        }
    }

    fn empty() -> Self {
        Self {
            stream: None,
            phase: Phase::Down,
            parser: ResponseParser::default(),
            elements: ElementCount::default(),
            body_bytes: 0,
            in_flight: VecDeque::new(),
            out: Vec::new(),
            out_at: 0,
            body: None,
            body_at: 0,
            has_served: false,
        }
    }
}
