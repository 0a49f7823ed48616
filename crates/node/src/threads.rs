//! Threads of their own for what must not wait: one for each mailbox, and one for the deadlines of parked requests.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{Builder, JoinHandle};

use milena_base::Instant;
use milena_broker::{Mailbox, Outbox, Post};

use crate::edge::Edge;

const STACK_BYTES: usize = 1024 * 1024;

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let builder = Builder::new().name(name.into()).stack_size(STACK_BYTES);
    builder.spawn(body).expect("a thread can be started")
}

/// Runs a mailbox until its senders are gone or it asks for nothing more after `stop`.
pub fn mailbox<M>(
    name: &'static str,
    edge: Arc<Edge>,
    events: Receiver<M::Event>,
    mut mailbox: M,
) -> JoinHandle<()>
where
    M: Mailbox + Send + 'static,
    M::Event: Send,
{
    spawn(name, move || {
        let mut out = Outbox::default();
        let run = catch_unwind(AssertUnwindSafe(|| {
            while let Some(event) = next(&edge, &events, mailbox.deadline()) {
                let now = edge.clock.now();
                match event {
                    Some(event) => mailbox.step(event, now, &mut out),
                    None => mailbox.tick(now, &mut out),
                }
                edge.deliver(&mut out);
                if mailbox.is_finished() {
                    return;
                }
            }
        }));
        if run.is_err() {
            edge.post(Post::Halt(format!("the {name} thread broke an invariant")));
        }
    })
}

/// The next event; `Some(None)` when the deadline passed; `None` when there will be no more.
fn next<E>(edge: &Edge, events: &Receiver<E>, deadline: Instant) -> Option<Option<E>> {
    if deadline == Instant::NEVER {
        return events.recv().ok().map(Some);
    }
    match events.recv_timeout(edge.clock.until(deadline)) {
        Ok(event) => Some(Some(event)),
        Err(RecvTimeoutError::Timeout) => Some(None),
        Err(RecvTimeoutError::Disconnected) => None,
    }
}

/// Answers parked requests whose time has come. Woken only for a deadline before its next look.
pub fn waiters(edge: Arc<Edge>, woken: Receiver<bool>) -> JoinHandle<()> {
    spawn("waiters", move || {
        let mut out = Outbox::default();
        loop {
            let deadline = edge.broker.waiter_deadline().unwrap_or(Instant::NEVER);
            if matches!(next(&edge, &woken, deadline), None | Some(Some(false))) {
                return;
            }
            edge.broker.expire_waiters(edge.clock.now(), &mut out);
            edge.deliver(&mut out);
        }
    })
}
