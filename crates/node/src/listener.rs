//! Accepts connections on one address.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use milena_broker::{ListenerKind, Post};
use milena_config::NodeConfig;
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use crate::admission::{Limits, NotAdmitted, Ticket};
use crate::connection::{Peer, serve};
use crate::edge::Edge;

/// After a failed accept (no descriptors left), and between two looks for a place, so that neither is tried in a tight loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What is asked of the system for sockets, where the configuration differs from Kafka's defaults. Those are not asked for: the
/// system's own buffers grow with the need, 100 KiB would keep them from it, and its own queue is longer.
#[derive(Clone, Copy, Debug, Default)]
pub struct SocketOptions {
    /// `socket.listen.backlog.size`.
    backlog: Option<i32>,
    /// `socket.send.buffer.bytes`; −1 is the system's.
    send_bytes: Option<usize>,
    /// `socket.receive.buffer.bytes`; −1 is the system's.
    receive_bytes: Option<usize>,
}

impl SocketOptions {
    pub fn of(config: &NodeConfig) -> SocketOptions {
        let changed = |key| (!config.has_default(key)).then(|| config.int(key));
        let bytes = |key| changed(key).and_then(|value| usize::try_from(value).ok());
        SocketOptions {
            backlog: changed("socket.listen.backlog.size"),
            send_bytes: bytes("socket.send.buffer.bytes"),
            receive_bytes: bytes("socket.receive.buffer.bytes"),
        }
    }

    fn apply(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        if let Some(bytes) = self.send_bytes {
            rustix::net::sockopt::set_socket_send_buffer_size(stream, bytes)?;
        }
        if let Some(bytes) = self.receive_bytes {
            rustix::net::sockopt::set_socket_recv_buffer_size(stream, bytes)?;
        }
        Ok(())
    }
}

/// Binds before anything else is started, so that a port in use is a clear refusal.
pub fn bind(host: &str, port: u16, options: SocketOptions) -> io::Result<std::net::TcpListener> {
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    let listener = std::net::TcpListener::bind((host, port))?;
    listener.set_nonblocking(true)?;
    if let Some(backlog) = options.backlog {
        // A second call changes the length of the queue.
        rustix::net::listen(&listener, backlog)?;
    }
    Ok(listener)
}

/// Accepts until the task is ended: clients and followers from when the broker is unfenced, as Kafka does it.
pub async fn accept(
    listener: std::net::TcpListener,
    index: usize,
    options: SocketOptions,
    edge: Arc<Edge>,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return edge.post(Post::Halt(format!("a listener can't be used: {error}"))),
    };
    if edge.broker.listener_kind(index) == ListenerKind::Broker {
        edge.until_served().await;
    }
    loop {
        match listener.accept().await {
            Ok((stream, address)) => start(stream, address, index, options, &edge).await,
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn start(
    stream: TcpStream,
    address: SocketAddr,
    listener: usize,
    options: SocketOptions,
    edge: &Arc<Edge>,
) {
    let ticket = match edge.broker.listener_kind(listener) {
        // The quorum's own traffic has a place whatever clients do.
        ListenerKind::Controller => None,
        ListenerKind::Broker => match place(address, listener, edge).await {
            Some(ticket) => Some(ticket),
            None => return,
        },
    };
    if let Err(error) = options.apply(&stream) {
        warn!(%error, "a connection ended while it was accepted");
        return;
    }
    let (id, answers) = edge.open();
    let peer = Peer {
        id,
        address,
        listener,
    };
    let edge = edge.clone();
    tokio::spawn(async move {
        serve(stream, peer, edge, answers).await;
        drop(ticket);
    });
}

/// A place for a connection, waited for as Kafka waits: no other connection of the listener is accepted meanwhile.
/// None where the address has as many as it may have.
async fn place(address: SocketAddr, listener: usize, edge: &Arc<Edge>) -> Option<Ticket> {
    let settings = edge.broker.settings();
    let name = &settings.listeners[listener].name;
    let is_protected = settings.listeners.len() > 1 && *name == settings.inter_broker_listener;
    loop {
        let limits = {
            let layers = edge.broker.layers();
            Limits::of(layers.current(), address.ip(), is_protected)
        };
        match edge.admission.admit(address.ip(), &limits) {
            Ok(ticket) => return Some(ticket),
            Err(NotAdmitted::Address) => {
                debug!(peer = %address, "connection closed: its address has as many as it may have");
                return None;
            }
            Err(NotAdmitted::Total) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use milena_config::Properties;

    fn options(extra: &[(&str, &str)]) -> SocketOptions {
        let mut properties = Properties::from_iter([
            ("process.roles", "broker,controller"),
            ("node.id", "1"),
            ("controller.listener.names", "CONTROLLER"),
            (
                "listeners",
                "PLAINTEXT://localhost:0,CONTROLLER://localhost:0",
            ),
            ("controller.quorum.bootstrap.servers", "localhost:9093"),
        ]);
        for (key, value) in extra {
            properties.set(*key, *value);
        }
        SocketOptions::of(&NodeConfig::from_properties(&properties).expect("good").0)
    }

    #[test]
    fn buffers_are_the_systems_unless_they_are_set() {
        let set = options(&[
            ("socket.send.buffer.bytes", "40000"),
            ("socket.receive.buffer.bytes", "30000"),
        ]);
        assert_eq!(
            (set.send_bytes, set.receive_bytes),
            (Some(40_000), Some(30_000))
        );
        let unset = options(&[("socket.send.buffer.bytes", "-1")]);
        assert_eq!((unset.send_bytes, unset.receive_bytes), (None, None));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build();
        runtime.expect("a runtime").block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
            let address = listener.local_addr().expect("bound");
            let stream = TcpStream::connect(address).await.expect("connected");
            set.apply(&stream).expect("applied");
            // Linux doubles what is asked for.
            let send = rustix::net::sockopt::socket_send_buffer_size(&stream);
            assert_eq!(send.expect("told"), 80_000);
            let receive = rustix::net::sockopt::socket_recv_buffer_size(&stream);
            assert_eq!(receive.expect("told"), 60_000);
        });
    }

    #[test]
    fn a_short_queue_leaves_connections_outside() {
        let set = options(&[("socket.listen.backlog.size", "1")]);
        let listener = bind("127.0.0.1", 0, set).expect("a listener");
        let address = listener.local_addr().expect("bound");
        let within = Duration::from_millis(300);
        let tries = (0..8).map(|_| std::net::TcpStream::connect_timeout(&address, within));
        let connected = tries.filter_map(Result::ok).collect::<Vec<_>>();
        assert!((1..8).contains(&connected.len()), "{}", connected.len());
    }
}
