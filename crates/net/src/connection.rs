//! The server's side of one connection: requests out of bytes, answers back in the order of their requests.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use milena_protocol::{ApiKey, Message, Reader, RequestHeader, Str};

use crate::{Frame, Input, Refused};

/// Bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `socket.request.max.bytes`.
    pub frame_bytes_max: usize,
    /// Requests that may wait for their answers before reading stops.
    pub requests_in_flight_max: usize,
    /// Finished answers that may wait for the socket before reading stops, in bytes.
    pub output_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            frame_bytes_max: 100 * 1024 * 1024,
            requests_in_flight_max: 100,
            output_bytes_max: 8 * 1024 * 1024,
        }
    }
}

/// A request as it came: the header is parsed, the body is a slice of the read buffer.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Place in the order of answers.
    pub sequence: u64,
    pub api: ApiKey,
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: Option<Str>,
    /// The version is one that this server does not speak. Only ApiVersions is handed out so (KIP-35): it is
    /// answered in version 0.
    pub unsupported_version: bool,
    pub body: Bytes,
}

enum Slot {
    /// `passable`: a later request may be executed while this one waits (Produce, Fetch).
    Waiting { passable: bool },
    /// `None`: nothing is sent (acks=0).
    Done(Option<Frame>),
}

/// One connection's state. The edge appends received bytes to [`Connection::input`], takes requests, completes
/// them in any order and sends what [`Connection::poll_transmit`] gives.
pub struct Connection {
    pub input: Input,
    limits: Limits,
    first: u64,
    slots: VecDeque<Slot>,
    output_bytes: usize,
    blocked: usize,
}

impl Connection {
    pub fn new(limits: Limits) -> Connection {
        Connection {
            input: Input::new(limits.frame_bytes_max),
            limits,
            first: 0,
            slots: VecDeque::new(),
            output_bytes: 0,
            blocked: 0,
        }
    }

    pub fn read_buffer(&mut self) -> &mut BytesMut {
        self.input.buffer()
    }

    /// Whether a further request may be taken: a waiting request that may not be passed, too many in flight or
    /// too much unsent output stop the reading.
    pub fn wants_requests(&self) -> bool {
        self.blocked == 0
            && self.slots.len() < self.limits.requests_in_flight_max
            && self.output_bytes < self.limits.output_bytes_max
    }

    /// Whether [`Connection::next_request`] has something to say without further bytes. The edge asks after it has
    /// sent: room that sending made is used before it waits for the socket, since nothing more may arrive there.
    pub fn has_request(&self) -> bool {
        self.wants_requests() && self.input.has_frame()
    }

    /// The next request, if a whole one has arrived and may be executed now.
    ///
    /// `serves` says whether this listener serves an API at a version.
    pub fn next_request(
        &mut self,
        serves: impl Fn(ApiKey, i16) -> bool,
    ) -> Result<Option<Incoming>, Refused> {
        if !self.wants_requests() {
            return Ok(None);
        }
        let Some(frame) = self.input.next_frame()? else {
            return Ok(None);
        };
        let incoming = parse(frame, self.first + self.slots.len() as u64, serves)?;
        let passable = matches!(incoming.api, ApiKey::Produce | ApiKey::Fetch);
        self.blocked += usize::from(!passable);
        self.slots.push_back(Slot::Waiting { passable });
        Ok(Some(incoming))
    }

    /// Lets nothing pass the request of this sequence while it waits.
    pub fn hold(&mut self, sequence: u64) {
        let index = sequence.checked_sub(self.first).map(|index| index as usize);
        let slot = index.and_then(|index| self.slots.get_mut(index));
        if let Some(Slot::Waiting { passable }) = slot {
            self.blocked += usize::from(std::mem::replace(passable, false));
        }
    }

    /// Hands in the answer to the request of this sequence; `None` where none is sent.
    ///
    /// # Panics
    /// Where the request is not waiting: each is answered once.
    pub fn complete(&mut self, sequence: u64, answer: Option<Frame>) {
        let index = sequence
            .checked_sub(self.first)
            .expect("an answer for a request that was answered") as usize;
        let slot = self.slots.get_mut(index).expect("an answer for no request");
        let Slot::Waiting { passable } = *slot else {
            panic!("a second answer for request {sequence}");
        };
        self.blocked -= usize::from(!passable);
        self.output_bytes += answer.as_ref().map_or(0, Frame::len);
        *slot = Slot::Done(answer);
    }

    /// The next frame to send, once every earlier one was taken.
    pub fn poll_transmit(&mut self) -> Option<Frame> {
        while matches!(self.slots.front(), Some(Slot::Done(_))) {
            self.first += 1;
            if let Some(Slot::Done(Some(frame))) = self.slots.pop_front() {
                self.output_bytes -= frame.len();
                return Some(frame);
            }
        }
        None
    }

    /// Requests taken and not yet sent back.
    pub fn in_flight(&self) -> usize {
        self.slots.len()
    }
}

fn parse(
    frame: Bytes,
    sequence: u64,
    serves: impl Fn(ApiKey, i16) -> bool,
) -> Result<Incoming, Refused> {
    let (Some(key), Some(version)) = (i16_at(&frame, 0), i16_at(&frame, 2)) else {
        return Err(Refused::Header(
            "it ends within its first four bytes".into(),
        ));
    };
    let Some(api) = ApiKey::from_code(key) else {
        return Err(Refused::Api { key, version });
    };
    let served = serves(api, version);
    let unsupported_version = !served && api == ApiKey::ApiVersions;
    if !served && !unsupported_version {
        return Err(Refused::Api { key, version });
    }
    let header_version = if unsupported_version {
        1 // only the correlation id is needed; the rest may have a form that we do not know
    } else {
        api.request_header_version(version)
    };
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(&mut reader, header_version)
        .map_err(|error| Refused::Header(error.to_string()))?;
    Ok(Incoming {
        sequence,
        api,
        version,
        correlation_id: header.correlation_id,
        client_id: header.client_id,
        unsupported_version,
        body: reader.rest(),
    })
}

fn i16_at(frame: &Bytes, at: usize) -> Option<i16> {
    let bytes = frame.get(at..at + 2)?;
    Some(i16::from_be_bytes([bytes[0], bytes[1]]))
}
