//! One connection: requests go out in order, answers come back in order, several may be under way.
//!
//! Two tasks own the socket's halves; a [`Connection`] is a handle to them, and the socket closes when the last
//! handle is dropped. An answer that nobody waits for any more is read and dropped.

use std::collections::{BTreeMap, VecDeque};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use milena_base::ErrorCode;
use milena_net::{Input, call};
use milena_protocol::api_versions_response::ApiVersionsResponse;
use milena_protocol::{ApiKey, ApiVersionsRequest, Request, Str};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::{Address, Error};

/// The largest answer that is taken; Kafka's clients have no bound but the length field's.
const ANSWER_BYTES_MAX: usize = i32::MAX as usize;
/// Versions of APIs that a peer serves, by key.
type Ranges = BTreeMap<i16, (i16, i16)>;

/// What is common to both tasks.
#[derive(Debug, Default)]
struct Shared {
    /// Correlation ids of what was sent, oldest first, with who waits.
    waiting: VecDeque<(i32, oneshot::Sender<Bytes>)>,
    /// Why the connection ended.
    ended: Option<String>,
}

struct Outgoing {
    bytes: Bytes,
    correlation_id: i32,
    /// `None` for a request that is never answered (acks=0).
    answer: Option<oneshot::Sender<Bytes>>,
}

/// An open connection whose peer has said which versions it serves.
#[derive(Debug)]
pub struct Connection {
    peer: String,
    client_id: Option<Str>,
    request_timeout: Duration,
    next_correlation_id: AtomicI32,
    outgoing: mpsc::UnboundedSender<Outgoing>,
    shared: Arc<Mutex<Shared>>,
    api_versions: ApiVersionsResponse,
    ranges: Ranges,
}

impl Connection {
    /// Connects and asks for the versions. `named` says who the peer is, for errors (`bootstrap server`), and
    /// `advertised` whether the cluster has said its address.
    pub async fn open(
        address: &Address,
        (named, advertised): (&str, bool),
        client_id: Option<Str>,
        connect_timeout: Duration,
        request_timeout: Duration,
    ) -> Result<Connection, Error> {
        let failed = |why: String| Error::Connect {
            address: address.to_string(),
            named: named.to_string(),
            advertised,
            why,
        };
        let connecting = TcpStream::connect((address.host.as_str(), address.port));
        let stream = match timeout(connect_timeout, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed("no answer to the connection attempt".into())),
        };
        stream.set_nodelay(true).ok();
        let (outgoing, queue) = mpsc::unbounded_channel();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (reading, writing) = stream.into_split();
        tokio::spawn(write(writing, queue, shared.clone()));
        tokio::spawn(read(reading, shared.clone()));
        let mut connection = Connection {
            peer: format!("{named} {address}"),
            client_id,
            request_timeout,
            next_correlation_id: AtomicI32::new(0),
            outgoing,
            shared,
            api_versions: ApiVersionsResponse::default(),
            ranges: Ranges::new(),
        };
        connection.negotiate().await?;
        Ok(connection)
    }

    /// Kafka's handshake: our highest ApiVersions, then, where the peer does not know it, the one it names.
    async fn negotiate(&mut self) -> Result<(), Error> {
        let mut version = ApiKey::ApiVersions.max_version().min(4);
        let request = ApiVersionsRequest {
            client_software_name: "milena".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
            ..Default::default()
        };
        loop {
            let frame = self.send_at(&request, version)?.frame().await?;
            let unsupported = ErrorCode::UnsupportedVersion.code().to_be_bytes();
            let fallback = version > 0 && frame.get(4..6) == Some(&unsupported);
            let at = if fallback { 0 } else { version };
            let answer = call::decode::<ApiVersionsRequest>(frame, at)
                .map_err(|error| self.malformed(ApiKey::ApiVersions, &error.to_string()))?;
            if fallback {
                let key = ApiKey::ApiVersions.code();
                let theirs = answer.api_keys.iter().find(|api| api.api_key == key);
                version = theirs.map_or(0, |api| api.max_version.clamp(0, version - 1));
                continue;
            }
            Error::check(answer.error_code, None)?;
            let ranges = answer.api_keys.iter();
            self.ranges = ranges
                .map(|api| (api.api_key, (api.min_version, api.max_version)))
                .collect();
            self.api_versions = answer;
            return Ok(());
        }
    }

    /// Who is at the other end, for messages: `broker 1 host:9092`.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// What the peer answered to ApiVersions.
    pub fn api_versions(&self) -> &ApiVersionsResponse {
        &self.api_versions
    }

    pub fn is_open(&self) -> bool {
        !self.outgoing.is_closed() && self.shared().ended.is_none()
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().expect("no task panics with the lock")
    }

    /// The highest version of an API that both ends know; `None` where there is none.
    pub fn version(&self, api: ApiKey) -> Option<i16> {
        let &(min, max) = self.ranges.get(&api.code())?;
        let usable = max.min(api.max_version());
        (usable >= min.max(api.min_version())).then_some(usable)
    }

    /// Sends a request in the highest common version, at most `version_max`.
    pub fn send_capped<R: Request>(
        &self,
        request: &R,
        version_max: i16,
    ) -> Result<Pending<R>, Error> {
        let version = self.version(R::API_KEY).ok_or_else(|| Error::Unsupported {
            peer: self.peer.clone(),
            what: format!("the API {}", R::API_KEY),
        })?;
        self.send_at(request, version.min(version_max))
    }

    pub fn send<R: Request>(&self, request: &R) -> Result<Pending<R>, Error> {
        self.send_capped(request, i16::MAX)
    }

    /// Sends a request and waits for its answer, at most `request.timeout.ms`.
    pub async fn call<R: Request>(&self, request: &R) -> Result<R::Response, Error> {
        self.send(request)?.response().await
    }

    /// Sends a request that has no answer (Produce with acks=0).
    pub fn send_unanswered<R: Request>(&self, request: &R) -> Result<(), Error> {
        let version = self.version(R::API_KEY).unwrap_or(R::MAX_VERSION);
        self.enqueue(request, version, None).map(|_| ())
    }

    fn send_at<R: Request>(&self, request: &R, version: i16) -> Result<Pending<R>, Error> {
        let (sender, receiver) = oneshot::channel();
        self.enqueue(request, version, Some(sender))?;
        Ok(Pending {
            peer: self.peer.clone(),
            shared: self.shared.clone(),
            receiver,
            version,
            timeout: self.request_timeout,
            request: PhantomData,
        })
    }

    fn enqueue<R: Request>(
        &self,
        request: &R,
        version: i16,
        answer: Option<oneshot::Sender<Bytes>>,
    ) -> Result<i32, Error> {
        let correlation_id = self.next_correlation_id.fetch_add(1, Ordering::Relaxed) & i32::MAX;
        let bytes = call::encode(request, version, correlation_id, self.client_id.clone())
            .map_err(|error| Error::Unsupported {
                peer: self.peer.clone(),
                what: format!("{} as asked for: {error}", R::API_KEY),
            })?;
        let outgoing = Outgoing {
            bytes,
            correlation_id,
            answer,
        };
        match self.outgoing.send(outgoing) {
            Ok(()) => Ok(correlation_id),
            Err(_) => Err(disconnected(&self.peer, &self.shared)),
        }
    }

    fn malformed(&self, api: ApiKey, why: &str) -> Error {
        Error::Malformed {
            peer: self.peer.clone(),
            what: format!("an answer to {api} that can't be read: {why}"),
        }
    }
}

fn disconnected(peer: &str, shared: &Mutex<Shared>) -> Error {
    let shared = shared.lock().expect("no task panics with the lock");
    let why = shared
        .ended
        .as_deref()
        .unwrap_or("the connection is closed");
    Error::Disconnected {
        peer: peer.to_string(),
        why: why.to_string(),
    }
}

/// An answer that is awaited.
#[derive(Debug)]
pub struct Pending<R> {
    peer: String,
    shared: Arc<Mutex<Shared>>,
    receiver: oneshot::Receiver<Bytes>,
    version: i16,
    timeout: Duration,
    request: PhantomData<fn() -> R>,
}

impl<R: Request> Pending<R> {
    /// The version that the request was sent in.
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Waits at most this long instead of `request.timeout.ms`.
    #[must_use]
    pub fn within(mut self, timeout: Duration) -> Pending<R> {
        self.timeout = timeout;
        self
    }

    async fn frame(self) -> Result<Bytes, Error> {
        match timeout(self.timeout, self.receiver).await {
            Ok(Ok(frame)) => Ok(frame),
            Ok(Err(_)) => Err(disconnected(&self.peer, &self.shared)),
            Err(_) => Err(Error::NoAnswer {
                peer: self.peer,
                api: R::API_KEY.name(),
                after: self.timeout,
            }),
        }
    }

    pub async fn response(self) -> Result<R::Response, Error> {
        let (peer, version) = (self.peer.clone(), self.version);
        let frame = self.frame().await?;
        call::decode::<R>(frame, version).map_err(|error| Error::Malformed {
            peer,
            what: format!("an answer to {} that can't be read: {error}", R::API_KEY),
        })
    }
}

async fn write(
    mut socket: OwnedWriteHalf,
    mut queue: mpsc::UnboundedReceiver<Outgoing>,
    shared: Arc<Mutex<Shared>>,
) {
    while let Some(outgoing) = queue.recv().await {
        {
            let mut shared = shared.lock().expect("no task panics with the lock");
            if shared.ended.is_some() {
                return;
            }
            if let Some(answer) = outgoing.answer {
                shared.waiting.push_back((outgoing.correlation_id, answer));
            }
        }
        if let Err(error) = socket.write_all(&outgoing.bytes).await {
            return end(&shared, error.to_string());
        }
    }
    socket.shutdown().await.ok();
}

async fn read(mut socket: OwnedReadHalf, shared: Arc<Mutex<Shared>>) {
    let mut input = Input::new(ANSWER_BYTES_MAX);
    loop {
        match socket.read_buf(input.buffer()).await {
            Ok(0) => return end(&shared, "it closed the connection".to_string()),
            Ok(_) => {}
            Err(error) => return end(&shared, error.to_string()),
        }
        loop {
            match input.next_frame() {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    if let Err(why) = deliver(&shared, frame) {
                        return end(&shared, why);
                    }
                }
                Err(refused) => return end(&shared, refused.to_string()),
            }
        }
    }
}

fn deliver(shared: &Mutex<Shared>, frame: Bytes) -> Result<(), String> {
    let mut shared = shared.lock().expect("no task panics with the lock");
    let got = call::correlation_id(&frame).ok_or("it sent a frame without a correlation id")?;
    match shared.waiting.pop_front() {
        Some((expected, answer)) if expected == got => {
            answer.send(frame).ok();
            Ok(())
        }
        Some((expected, _)) => Err(format!("it answered {got} where {expected} was to come")),
        None => Err(format!("it answered {got}, which nobody asked")),
    }
}

/// Marks the end and wakes everybody who waits: their senders are dropped.
fn end(shared: &Mutex<Shared>, why: String) {
    let mut shared = shared.lock().expect("no task panics with the lock");
    shared.ended.get_or_insert(why);
    shared.waiting.clear();
}
