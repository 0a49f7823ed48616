//! A client's connections to nodes that come and go.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use milena_base::ErrorCode;
use milena_protocol::{FindCoordinatorRequest, Request, Str};

use super::{IN_TIME, TOPIC, World};
use crate::wire::Wire;

const PAUSE: Duration = Duration::from_millis(5);

/// Whom a request is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    Any,
    /// The leader of a partition.
    Leader(u32),
    /// The coordinator of a transactional id.
    Coordinator(String),
}

pub struct Line<'a> {
    world: &'a World,
    wires: BTreeMap<To, Wire>,
}

impl<'a> Line<'a> {
    pub fn new(world: &'a World) -> Line<'a> {
        Line {
            world,
            wires: BTreeMap::new(),
        }
    }

    /// One attempt. `None`: nobody is there, or went away before the answer.
    pub fn call<R: Request>(&mut self, to: &To, request: &R, version: i16) -> Option<R::Response> {
        if !self.wires.contains_key(to) {
            let Some(wire) = self.find(to) else {
                std::thread::sleep(PAUSE);
                return None;
            };
            self.wires.insert(to.clone(), wire);
        }
        let answer = self.wires.get_mut(to)?.try_call(request, version);
        if answer.is_none() {
            self.world.lost.fetch_add(1, Ordering::Relaxed);
            self.forget(to);
        }
        answer
    }

    /// Looks for it anew before the next request.
    pub fn forget(&mut self, to: &To) {
        self.wires.remove(to);
    }

    fn find(&self, to: &To) -> Option<Wire> {
        let client = &self.world.client;
        match to {
            To::Any => client.any(),
            To::Leader(partition) => {
                let (_, address) = client.leader(TOPIC, *partition as i32)?;
                Wire::try_connect(&address)
            }
            To::Coordinator(name) => {
                let find = FindCoordinatorRequest {
                    key_type: 1,
                    coordinator_keys: vec![Str::copy(name)],
                    ..Default::default()
                };
                let answer = client.ask(&find, 4)?;
                let found = answer.coordinators.first().filter(|c| c.error_code == 0)?;
                Wire::try_connect(&format!("{}:{}", found.host, found.port))
            }
        }
    }

    /// Sends it again until an answer is one that `accept` takes; also a request whose answer was lost.
    pub fn insist<R: Request, T>(
        &mut self,
        to: &To,
        request: &R,
        version: i16,
        mut accept: impl FnMut(R::Response) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + IN_TIME;
        let mut last = "none".to_owned();
        loop {
            if let Some(answer) = self.call(to, request, version) {
                last = format!("{answer:?}");
                if let Some(accepted) = accept(answer) {
                    return accepted;
                }
                self.forget(to);
            }
            let in_time = Instant::now() < deadline && !self.world.is_over();
            assert!(in_time, "{} to {to:?}: the last answer is {last}", R::NAME);
            std::thread::sleep(PAUSE);
        }
    }
}

/// What clients try again on.
pub fn is_temporary(code: i16) -> bool {
    code != 0 && ErrorCode::from_code(code).is_some_and(ErrorCode::is_retriable)
}
