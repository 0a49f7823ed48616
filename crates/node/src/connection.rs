//! One connection's task: reads into the buffer that is the batch, executes, sends answers in order.

use std::future::Future;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use milena_broker::{ConnectionId, Ctx, Outbox, Reply, ReplyTo};
use milena_net::{Connection, Frame, Incoming};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::edge::Edge;
use crate::transmit::{Sent, Transmit};

/// What a connection's task needs to know of its peer.
pub struct Peer {
    pub id: ConnectionId,
    pub address: std::net::SocketAddr,
    /// Index into the node's listeners.
    pub listener: usize,
}

/// A finished answer on its way to its connection.
pub type Answer = (u64, Frame);

/// Serves one connection until it ends. The sentence says why, where there is something to say.
pub async fn serve(
    mut stream: TcpStream,
    peer: Peer,
    edge: Arc<Edge>,
    mut answers: UnboundedReceiver<Answer>,
) {
    let mut task = Task {
        connection: Connection::new(edge.limits),
        transmit: Transmit::default(),
        outbox: Outbox::default(),
        active: edge.clock.now().mono,
        moved: false,
        peer,
        edge,
    };
    match task.run(&mut stream, &mut answers).await {
        Ok(()) => debug!(peer = %task.peer.address, "connection closed"),
        Err(End::Io(error)) => debug!(peer = %task.peer.address, %error, "connection lost"),
        Err(End::Refused(why)) => {
            warn!(peer = %task.peer.address, "connection closed: {why}");
        }
    }
}

enum End {
    Io(io::Error),
    Refused(String),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Io(error)
    }
}

/// What the next byte of an answer waits for.
enum Wait {
    /// There is none to send.
    Nothing,
    Socket,
    /// Bytes that are not in the page cache, on their way into it by a thread that may wait.
    Disk(JoinHandle<()>),
}

impl Wait {
    /// Comes when it is worth while to send again; never where nothing is to be sent. May be dropped and asked again.
    async fn over(&mut self, writing: &WriteHalf<'_>) -> io::Result<()> {
        match self {
            Wait::Nothing => std::future::pending().await,
            Wait::Socket => writing.writable().await,
            Wait::Disk(brought) => brought.await.map_err(io::Error::other),
        }
    }
}

struct Task {
    connection: Connection,
    transmit: Transmit,
    outbox: Outbox,
    peer: Peer,
    edge: Arc<Edge>,
    /// When a request was last executed.
    active: milena_base::Instant,
    /// Bytes came or went since the last look at how long it is silent.
    moved: bool,
}

/// Also where the connection ends by its own last request, or by a panic in it: what that request had already done
/// for others (answers to parked requests, posts) is delivered, and the edge forgets the connection.
impl Drop for Task {
    fn drop(&mut self) {
        self.edge.deliver(&mut self.outbox);
        self.edge.close(self.peer.id);
    }
}

impl Task {
    async fn run(
        &mut self,
        stream: &mut TcpStream,
        answers: &mut UnboundedReceiver<Answer>,
    ) -> Result<(), End> {
        let (mut reading, writing) = stream.split();
        let mut wait = Wait::Nothing;
        let idle_after = self.idle_after();
        let mut idle = pin!(sleep(idle_after.unwrap_or(Duration::MAX)));
        loop {
            self.execute()?;
            if !matches!(wait, Wait::Disk(_)) {
                wait = self.send(&writing)?;
            }
            if matches!(wait, Wait::Nothing) && self.connection.has_request() {
                continue;
            }
            tokio::select! {
                biased;
                answer = answers.recv() => {
                    let Some(answer) = answer else { return Ok(()) };
                    self.take_answers(answer, answers);
                }
                ready = wait.over(&writing) => {
                    ready?;
                    wait = Wait::Nothing;
                    self.moved = true;
                }
                read = read_some(&mut reading, &mut self.connection),
                    if self.connection.wants_requests() =>
                {
                    if read? == 0 {
                        return Ok(());
                    }
                    self.moved = true;
                }
                () = &mut idle, if idle_after.is_some() => {
                    let left = self.until_idle(idle_after.unwrap_or_default());
                    if left.is_zero() {
                        return Ok(());
                    }
                    idle.as_mut().reset(tokio::time::Instant::now() + left);
                }
            }
        }
    }

    /// `connections.max.idle.ms`; none where it is negative.
    fn idle_after(&self) -> Option<Duration> {
        let layers = self.edge.broker.layers();
        let millis = layers.current().connections_max_idle_ms();
        u64::try_from(millis).ok().map(Duration::from_millis)
    }

    /// How long this connection may still be silent; zero where it was silent for `idle_after`. The clock is read for requests
    /// only: other bytes count as if they came now.
    fn until_idle(&mut self, idle_after: Duration) -> Duration {
        if std::mem::take(&mut self.moved) {
            return idle_after;
        }
        let silent = self.edge.clock.now().mono.since(self.active);
        idle_after.saturating_sub(silent)
    }

    fn take_answers(&mut self, first: Answer, answers: &mut UnboundedReceiver<Answer>) {
        self.moved = true;
        self.connection.complete(first.0, Some(first.1));
        while let Ok((sequence, frame)) = answers.try_recv() {
            self.connection.complete(sequence, Some(frame));
        }
    }

    /// Executes every request that has arrived and may run.
    fn execute(&mut self) -> Result<(), End> {
        let listener = self.peer.listener;
        loop {
            let serves = |api, version| self.edge.broker.serves(listener, api, version);
            let next = self.connection.next_request(serves);
            let Some(incoming) = next.map_err(|why| End::Refused(why.to_string()))? else {
                return Ok(());
            };
            self.execute_one(incoming)?;
        }
    }

    fn execute_one(&mut self, incoming: Incoming) -> Result<(), End> {
        let sequence = incoming.sequence;
        let now = self.edge.clock.now();
        self.active = now.mono;
        let ctx = Ctx {
            to: ReplyTo {
                connection: self.peer.id,
                sequence,
                api: incoming.api,
                version: incoming.version,
                correlation_id: incoming.correlation_id,
                envelope: None,
            },
            client_id: incoming.client_id.clone(),
            client_host: self.peer.address.ip(),
            principal: None,
            listener: self.peer.listener,
            now,
        };
        let reply = self.edge.broker.handle(&ctx, incoming, &mut self.outbox);
        match reply {
            Reply::Now(frame) => self.connection.complete(sequence, Some(frame)),
            Reply::Silent => self.connection.complete(sequence, None),
            Reply::Parked => {}
            Reply::Held => self.connection.hold(sequence),
            Reply::Close(why) => return Err(End::Refused(why)),
        }
        self.edge.deliver(&mut self.outbox);
        Ok(())
    }

    /// Sends what can be sent without waiting.
    fn send(&mut self, writing: &WriteHalf<'_>) -> Result<Wait, End> {
        loop {
            if self.transmit.is_empty() {
                let Some(frame) = self.connection.poll_transmit() else {
                    return Ok(Wait::Nothing);
                };
                self.transmit.load(frame);
                while self.transmit.may_take_more() {
                    let Some(frame) = self.connection.poll_transmit() else {
                        break;
                    };
                    self.transmit.load(frame);
                }
            }
            match self.transmit.write(writing)? {
                Sent::All => {}
                Sent::Full => return Ok(Wait::Socket),
                Sent::Cold(slice) => {
                    return Ok(Wait::Disk(spawn_blocking(move || slice.bring_in())));
                }
            }
        }
    }
}

/// Reads once. An idle connection holds no buffer: it is made when the socket is readable and given back when
/// nothing came.
async fn read_some(reading: &mut ReadHalf<'_>, connection: &mut Connection) -> io::Result<usize> {
    poll_fn(|context| {
        let poll = {
            let read = pin!(reading.read_buf(connection.read_buffer()));
            read.poll(context)
        };
        if poll.is_pending() {
            connection.input.release_if_idle();
        }
        poll
    })
    .await
}
