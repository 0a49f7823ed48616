//! Accepts connections on one address.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use milena_broker::{ListenerKind, Post};
use tokio::net::{TcpListener, TcpStream};
use tracing::warn;

use crate::connection::{Peer, serve};
use crate::edge::Edge;

/// After a failed accept (no descriptors left), so that it is not tried in a tight loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Binds before anything else is started, so that a port in use is a clear refusal.
pub fn bind(host: &str, port: u16) -> io::Result<std::net::TcpListener> {
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    let listener = std::net::TcpListener::bind((host, port))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Accepts until the task is ended: clients and followers from when the broker is unfenced, as Kafka does it.
pub async fn accept(listener: std::net::TcpListener, index: usize, edge: Arc<Edge>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return edge.post(Post::Halt(format!("a listener can't be used: {error}"))),
    };
    if edge.broker.listener_kind(index) == ListenerKind::Broker {
        edge.until_served().await;
    }
    loop {
        match listener.accept().await {
            Ok((stream, address)) => start(stream, address, index, &edge),
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn start(stream: TcpStream, address: SocketAddr, listener: usize, edge: &Arc<Edge>) {
    if let Err(error) = stream.set_nodelay(true) {
        warn!(%error, "a connection ended while it was accepted");
        return;
    }
    let (id, answers) = edge.open();
    let peer = Peer {
        id,
        address,
        listener,
    };
    tokio::spawn(serve(stream, peer, edge.clone(), answers));
}
