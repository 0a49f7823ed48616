//! One connection to a peer in one lane: calls go out in order, several may be under way, each ends exactly once.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use milena_base::{ErrorCode, Instant};
use milena_broker::{Answered, CALLS_MAX, PeerCall, Unanswered};
use milena_net::{Input, call};
use milena_protocol::{ApiKey, ApiVersionsRequest, Str};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;
use tracing::{debug, info};

use crate::peers::{Calls, Home, Target, sleep_until};

/// An unused connection is closed after this long, before the peer does it (`connections.max.idle.ms` is 10 minutes).
const IDLE_MAX: Duration = Duration::from_secs(540);
/// Connecting and learning the versions may take this long.
const OPEN_MAX: Duration = Duration::from_secs(10);
/// Pauses after failures: each twice the one before.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// Highest ApiVersions that is tried first; from version 5 on it names cluster and node.
const API_VERSIONS_MAX: i16 = 4;

/// Versions of APIs that a peer serves, by key.
type Ranges = BTreeMap<i16, (i16, i16)>;

/// A call that was sent.
struct Sent {
    correlation_id: i32,
    version: i16,
    call: PeerCall,
}

/// See the module's words.
pub struct Link {
    home: Arc<dyn Home>,
    again: Calls,
    target: Target,
    client_id: Str,
    calls: UnboundedReceiver<PeerCall>,
    /// Not sent yet.
    queued: VecDeque<PeerCall>,
    sent: VecDeque<Sent>,
    next_correlation_id: i32,
    pause: Duration,
}

impl Link {
    pub fn new(
        home: Arc<dyn Home>,
        again: Calls,
        target: Target,
        calls: UnboundedReceiver<PeerCall>,
    ) -> Link {
        Link {
            client_id: home.client_id(target.2).into(),
            home,
            again,
            target,
            calls,
            queued: VecDeque::new(),
            sent: VecDeque::new(),
            next_correlation_id: 0,
            pause: Duration::ZERO,
        }
    }

    /// Serves calls until none came for long.
    pub async fn run(mut self) {
        loop {
            if self.queued.is_empty() {
                match timeout(IDLE_MAX, self.calls.recv()).await {
                    Ok(Some(call)) => self.queue(call),
                    Ok(None) | Err(_) => return self.close(),
                }
            }
            self.wait_out_pause().await;
            match self.open().await {
                Ok((stream, ranges)) => {
                    self.pause = Duration::ZERO;
                    let why = self.talk(stream, &ranges).await;
                    debug!(peer = self.peer(), "connection ended: {why}");
                    self.end_sent(Unanswered::Unreachable);
                }
                Err(error) => {
                    if self.pause.is_zero() {
                        info!(peer = self.peer(), "no connection: {error}");
                    }
                    self.end_queued(match error.kind() {
                        io::ErrorKind::ConnectionRefused => Unanswered::Refused,
                        _ => Unanswered::Unreachable,
                    });
                }
            }
            self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        }
    }

    fn peer(&self) -> String {
        format!("{}:{} ({:?})", self.target.0, self.target.1, self.target.2)
    }

    /// What came while the end was decided goes back to the dispatcher.
    fn close(&mut self) {
        self.calls.close();
        while let Ok(call) = self.calls.try_recv() {
            // Its receiver is gone where the node stops.
            self.again.send(Some(call)).ok();
        }
    }

    fn queue(&mut self, call: PeerCall) {
        match self.queued.len() + self.sent.len() < CALLS_MAX {
            true => self.queued.push_back(call),
            false => self.home.answer(call.end(Err(Unanswered::Overloaded))),
        }
    }

    fn end_queued(&mut self, why: Unanswered) {
        for call in self.queued.drain(..) {
            self.home.answer(call.end(Err(why)));
        }
    }

    fn end_sent(&mut self, why: Unanswered) {
        for sent in self.sent.drain(..) {
            self.home.answer(sent.call.end(Err(why)));
        }
    }

    fn now(&self) -> Instant {
        self.home.clock().now().mono
    }

    /// Ends what has run out of time before it was sent.
    fn expire_queued(&mut self) {
        let now = self.now();
        let home = &self.home;
        self.queued.retain(|call| {
            let due = call.deadline <= now;
            if due {
                home.answer(call.end(Err(Unanswered::TimedOut)));
            }
            !due
        });
    }

    fn first_deadline(&self) -> Instant {
        let queued = self.queued.iter().map(|call| call.deadline);
        let sent = self.sent.iter().map(|sent| sent.call.deadline);
        queued.chain(sent).min().unwrap_or(Instant::NEVER)
    }

    async fn wait_out_pause(&mut self) {
        if !self.pause.is_zero() {
            let pause = self.pause;
            self.meanwhile(tokio::time::sleep(pause)).await;
        }
    }

    /// Waits for something; takes calls and ends those whose time has come meanwhile.
    async fn meanwhile<T>(&mut self, something: impl Future<Output = T>) -> T {
        let mut something = std::pin::pin!(something);
        let clock = self.home.clock();
        loop {
            let deadline = self.first_deadline();
            tokio::select! {
                done = &mut something => return done,
                Some(call) = self.calls.recv() => self.queue(call),
                () = sleep_until(clock, deadline) => self.expire_queued(),
            }
        }
    }

    async fn open(&mut self) -> io::Result<(Stream, Ranges)> {
        let (host, port, lane) = self.target.clone();
        let client_id = self.client_id.clone();
        let opening = timeout(OPEN_MAX, async move {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            let mut stream = Stream {
                socket: stream,
                input: Input::new(lane.answer_bytes_max()),
            };
            let ranges = negotiate(&mut stream, client_id).await?;
            Ok((stream, ranges))
        });
        let opened = self.meanwhile(opening).await;
        opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Sends and receives until the connection ends. The sentence says why.
    async fn talk(&mut self, stream: Stream, ranges: &Ranges) -> String {
        let Stream {
            mut socket,
            mut input,
        } = stream;
        let (mut reading, writing) = socket.split();
        let mut unsent: VecDeque<Bytes> = VecDeque::new();
        let clock = self.home.clock();
        loop {
            self.send_queued(ranges, &mut unsent);
            if let Err(error) = write_some(writing.as_ref(), &mut unsent) {
                return error.to_string();
            }
            let deadline = self.first_deadline();
            tokio::select! {
                read = reading.read_buf(input.buffer()) => match read {
                    Ok(0) => return "the peer closed it".into(),
                    Ok(_) => if let Err(why) = self.take_frames(&mut input) { return why },
                    Err(error) => return error.to_string(),
                },
                call = self.calls.recv() => match call {
                    Some(call) => self.queue(call),
                    None => return "the node stops".into(),
                },
                ready = writing.writable(), if !unsent.is_empty() => {
                    if let Err(error) = ready { return error.to_string() }
                }
                () = sleep_until(clock, deadline) => if self.expire_sent() {
                    return "a request was not answered in time".into();
                },
            }
        }
    }

    /// Puts what waits into frames.
    fn send_queued(&mut self, ranges: &Ranges, unsent: &mut VecDeque<Bytes>) {
        while let Some(call) = self.queued.pop_front() {
            let correlation_id = self.next_correlation_id;
            let version = version_for(&call, ranges);
            let frame = version.and_then(|version| {
                let client_id = Some(self.client_id.clone());
                call.request.frame(version, correlation_id, client_id).ok()
            });
            let (Some(version), Some(frame)) = (version, frame) else {
                self.home
                    .answer(call.end(Err(Unanswered::UnsupportedVersion)));
                continue;
            };
            self.next_correlation_id = correlation_id.wrapping_add(1) & i32::MAX;
            unsent.push_back(frame);
            self.sent.push_back(Sent {
                correlation_id,
                version,
                call,
            });
        }
    }

    fn take_frames(&mut self, input: &mut Input) -> Result<(), String> {
        while let Some(frame) = input.next_frame().map_err(|why| why.to_string())? {
            let got = call::correlation_id(&frame).ok_or("a frame without a correlation id")?;
            let sent = self.sent.pop_front().ok_or("an answer that nobody asked")?;
            if sent.correlation_id != got {
                self.sent.push_front(sent);
                return Err(format!("answer {got} came out of turn"));
            }
            let answered = Answered::new(sent.version, frame);
            self.home.answer(sent.call.end(Ok(answered)));
        }
        input.release_if_idle();
        Ok(())
    }

    /// Whether an answer is overdue: then the connection ends, and with it all that is under way.
    fn expire_sent(&mut self) -> bool {
        self.expire_queued();
        let now = self.now();
        let Some(at) = self.sent.iter().position(|s| s.call.deadline <= now) else {
            return false;
        };
        if let Some(late) = self.sent.remove(at) {
            self.home.answer(late.call.end(Err(Unanswered::TimedOut)));
        }
        true
    }
}

/// The highest version that both ends know and the call allows.
fn version_for(call: &PeerCall, ranges: &Ranges) -> Option<i16> {
    let api = call.request.api();
    let (min, max) = *ranges.get(&api.code())?;
    let version = max.min(api.max_version()).min(call.version_max);
    (version >= min.max(api.min_version())).then_some(version)
}

struct Stream {
    socket: TcpStream,
    input: Input,
}

/// Writes what the socket takes.
fn write_some(socket: &TcpStream, unsent: &mut VecDeque<Bytes>) -> io::Result<()> {
    while let Some(first) = unsent.front_mut() {
        match socket.try_write(first) {
            Ok(count) if count == first.len() => drop(unsent.pop_front()),
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => first.advance(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Kafka's handshake: our ApiVersions, then, where the peer does not know it, the one that it names.
async fn negotiate(stream: &mut Stream, client_id: Str) -> io::Result<Ranges> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut version = API_VERSIONS_MAX;
    let request = ApiVersionsRequest {
        client_software_name: "milena".into(),
        client_software_version: env!("CARGO_PKG_VERSION").into(),
        ..ApiVersionsRequest::default()
    };
    loop {
        let frame = call::encode(&request, version, -1, Some(client_id.clone()));
        let frame = frame.map_err(|error| wrong(error.to_string()))?;
        stream.socket.write_all(&frame).await?;
        let frame = read_frame(stream).await?;
        let unsupported = ErrorCode::UnsupportedVersion.code().to_be_bytes();
        let fallback = version > 0 && frame.get(4..6) == Some(&unsupported);
        let at = if fallback { 0 } else { version };
        let answer = call::decode::<ApiVersionsRequest>(frame, at);
        let answer = answer.map_err(|error| wrong(error.to_string()))?;
        if fallback {
            let key = ApiKey::ApiVersions.code();
            let theirs = answer.api_keys.iter().find(|api| api.api_key == key);
            version = theirs.map_or(0, |api| api.max_version.clamp(0, version - 1));
            continue;
        }
        if answer.error_code != 0 {
            return Err(wrong(format!("ApiVersions: error {}", answer.error_code)));
        }
        let ranges = answer.api_keys.iter();
        return Ok(ranges
            .map(|api| (api.api_key, (api.min_version, api.max_version)))
            .collect());
    }
}

async fn read_frame(stream: &mut Stream) -> io::Result<Bytes> {
    loop {
        let next = stream.input.next_frame();
        let next = next.map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why.to_string()));
        if let Some(frame) = next? {
            return Ok(frame);
        }
        if stream.socket.read_buf(stream.input.buffer()).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
