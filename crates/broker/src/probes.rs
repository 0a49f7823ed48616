//! Whether a broker that has fallen silent is still there. The active controller's node connects to its listener: a process
//! that was killed is refused by its machine at once, one that stands still is not. So the loss of a process is acted upon
//! before its session is over. It is a hint alone: what keeps a broker that lives on from doing harm is that it is fenced.

use std::collections::BTreeSet;
use std::time::Duration;

use milena_base::{BrokerId, Now};
use milena_protocol::ApiVersionsRequest;

use crate::ctx::Outbox;
use crate::peers::{Asker, Lane, PeerAddress, PeerAnswer, PeerCall, Unanswered};

/// Set in the tags of probes, and never in those of the quorum's own calls.
const PROBE: u64 = 1 << 63;
const PATIENCE: Duration = Duration::from_secs(1);

/// Those that are under way, by broker.
#[derive(Debug, Default)]
pub(crate) struct Probes(BTreeSet<i32>);

/// What a probe found.
pub(crate) struct Probed {
    pub broker: i32,
    /// Nobody listens there.
    pub gone: bool,
}

impl Probes {
    /// Looks for these, but for those that are being looked for.
    pub fn send(&mut self, brokers: impl Iterator<Item = i32>, now: Now, out: &mut Outbox) {
        for broker in brokers {
            if !self.0.insert(broker) {
                continue;
            }
            out.call(PeerCall::new(
                PeerAddress::Broker(BrokerId(broker)),
                Lane::Probe,
                ApiVersionsRequest {
                    client_software_name: "milena".into(),
                    client_software_version: env!("CARGO_PKG_VERSION").into(),
                    ..ApiVersionsRequest::default()
                },
                now.mono + PATIENCE,
                Asker::Quorum,
                PROBE | u64::from(broker as u32),
            ));
        }
    }

    /// `None` where the answer is not to a probe.
    pub fn answered(&mut self, answer: &PeerAnswer) -> Option<Probed> {
        if answer.tag & PROBE == 0 {
            return None;
        }
        let broker = (answer.tag & u64::from(u32::MAX)) as u32 as i32;
        self.0.remove(&broker);
        let gone = matches!(answer.result, Err(Unanswered::Refused));
        Some(Probed { broker, gone })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::Post;

    #[test]
    fn one_probe_of_a_broker_is_under_way_and_a_refusal_alone_says_that_it_is_gone() {
        let now = Now::from_millis(5, 0);
        let (mut probes, mut out) = (Probes::default(), Outbox::default());
        probes.send([3, 4, 3].into_iter(), now, &mut out);
        let calls: Vec<_> = out
            .posts
            .drain(..)
            .map(|post| match post {
                Post::Call(call) => call,
                other => panic!("{other:?}"),
            })
            .collect();
        let [first, second] = &calls[..] else {
            panic!("{calls:?}")
        };
        let refused = probes
            .answered(&first.end(Err(Unanswered::Refused)))
            .unwrap();
        assert_eq!((refused.broker, refused.gone), (3, true));
        let late = probes
            .answered(&second.end(Err(Unanswered::TimedOut)))
            .unwrap();
        assert_eq!((late.broker, late.gone), (4, false));
        probes.send([3].into_iter(), now, &mut out);
        assert_eq!(out.posts.len(), 1);
        let mut other = first.end(Err(Unanswered::Refused));
        other.tag = 7;
        assert!(probes.answered(&other).is_none());
    }
}
