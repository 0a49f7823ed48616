//! A connection to a node that comes and goes.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use milena_protocol::Request;

use super::{IN_TIME, World};
use crate::wire::Wire;

const PAUSE: Duration = Duration::from_millis(5);

pub struct Line<'a> {
    world: &'a World,
    wire: Option<Wire>,
}

impl<'a> Line<'a> {
    pub fn new(world: &'a World) -> Line<'a> {
        Line { world, wire: None }
    }

    /// One attempt. `None`: the node is away, or went away before it answered.
    pub fn call<R: Request>(&mut self, request: &R, version: i16) -> Option<R::Response> {
        if self.wire.is_none() {
            let address = self.world.address.lock().expect("nobody panicked").clone();
            self.wire = Wire::try_connect(&address);
        }
        let Some(wire) = &mut self.wire else {
            std::thread::sleep(PAUSE);
            return None;
        };
        let answer = wire.try_call(request, version);
        if answer.is_none() {
            self.world.lost.fetch_add(1, Ordering::Relaxed);
            self.wire = None;
        }
        answer
    }

    /// Sends it again until an answer is one that `accept` takes; also a request whose answer was lost.
    pub fn insist<R: Request, T>(
        &mut self,
        request: &R,
        version: i16,
        mut accept: impl FnMut(R::Response) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + IN_TIME;
        loop {
            if let Some(accepted) = self.call(request, version).and_then(&mut accept) {
                return accepted;
            }
            let in_time = Instant::now() < deadline && !self.world.is_over();
            assert!(in_time, "{} v{version}: no good answer", R::NAME);
            std::thread::sleep(PAUSE);
        }
    }
}
