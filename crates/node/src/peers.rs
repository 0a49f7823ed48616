//! The channel to other nodes: one thread, one task for each (address, lane) that is in use. What a call means, and
//! which connection it goes over, is `milena_broker`'s; see there for the rules.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::thread::JoinHandle;

use milena_base::Instant;
use milena_broker::{Lane, PeerAddress, PeerAnswer, PeerCall, Unanswered};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::clock::Clock;
use crate::link::Link;

/// What the channel needs of the node.
pub trait Home: Send + Sync + 'static {
    fn answer(&self, answer: PeerAnswer);

    /// Host and port of a peer.
    fn resolve(&self, peer: &PeerAddress) -> Option<(String, u16)>;

    fn client_id(&self, lane: Lane) -> String;

    fn clock(&self) -> Clock;
}

/// Where a connection goes.
pub type Target = (String, u16, Lane);

/// A call on its way, or (`None`) the end of the channel.
pub type Calls = UnboundedSender<Option<PeerCall>>;

/// Starts the channel. `tasks` are run on its thread too: what serves controllers must wait for no disk either.
pub fn start<F>(
    home: Arc<dyn Home>,
    calls: UnboundedReceiver<Option<PeerCall>>,
    again: Calls,
    tasks: Vec<F>,
) -> std::io::Result<JoinHandle<()>>
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let builder = std::thread::Builder::new()
        .name("peers".into())
        .stack_size(1024 * 1024);
    builder.spawn(move || {
        runtime.block_on(async {
            for task in tasks {
                tokio::spawn(task);
            }
            dispatch(home, calls, again).await;
        });
        runtime.shutdown_background();
    })
}

/// Gives each call to the task of its connection, and starts those that are not there.
async fn dispatch(
    home: Arc<dyn Home>,
    mut calls: UnboundedReceiver<Option<PeerCall>>,
    again: Calls,
) {
    let mut links: HashMap<Target, UnboundedSender<PeerCall>> = HashMap::new();
    while let Some(Some(call)) = calls.recv().await {
        let Some((host, port)) = home.resolve(&call.to) else {
            home.answer(call.end(Err(Unanswered::Unknown)));
            continue;
        };
        let target = (host, port, call.lane);
        match links.entry(target) {
            Entry::Occupied(mut entry) => {
                if let Err(refused) = entry.get().send(call) {
                    let target = entry.key().clone();
                    entry.insert(open(&home, &again, target, refused.0));
                }
            }
            Entry::Vacant(entry) => {
                let target = entry.key().clone();
                entry.insert(open(&home, &again, target, call));
            }
        }
        if links.len() > LINKS_BEFORE_SWEEP {
            links.retain(|_, link| !link.is_closed());
        }
    }
}

/// Ended connections are forgotten when there are more than this.
const LINKS_BEFORE_SWEEP: usize = 256;

fn open(
    home: &Arc<dyn Home>,
    again: &Calls,
    target: Target,
    first: PeerCall,
) -> UnboundedSender<PeerCall> {
    let (sender, calls) = unbounded_channel();
    // The receiver is alive: it goes into the task.
    sender.send(first).ok();
    let link = Link::new(home.clone(), again.clone(), target, calls);
    tokio::spawn(link.run());
    sender
}

/// Sleeps until an instant of the node's clock.
pub async fn sleep_until(clock: Clock, at: Instant) {
    match at {
        Instant::NEVER => std::future::pending().await,
        at => tokio::time::sleep(clock.until(at)).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use milena_broker::Asker;
    use milena_net::Frame;
    use milena_protocol::api_versions_response::ApiVersion;
    use milena_protocol::{
        ApiKey, ApiVersionsResponse, DescribeQuorumRequest, DescribeQuorumResponse, VoteRequest,
        VoteResponse,
    };

    const BOUND: Duration = Duration::from_secs(20);

    struct TestHome {
        clock: Clock,
        answers: Sender<PeerAnswer>,
    }

    impl Home for TestHome {
        fn answer(&self, answer: PeerAnswer) {
            self.answers.send(answer).ok();
        }

        fn resolve(&self, peer: &PeerAddress) -> Option<(String, u16)> {
            match peer {
                PeerAddress::At { host, port } => Some((host.clone(), *port)),
                PeerAddress::Broker(_) => None,
            }
        }

        fn client_id(&self, _lane: Lane) -> String {
            "raft-client-7".into()
        }

        fn clock(&self) -> Clock {
            self.clock
        }
    }

    struct Channel {
        clock: Clock,
        calls: Calls,
        answers: Receiver<PeerAnswer>,
        thread: Option<JoinHandle<()>>,
    }

    impl Channel {
        fn start() -> Channel {
            let clock = Clock::start();
            let (sender, answers) = channel();
            let (calls, made) = unbounded_channel();
            let home = Arc::new(TestHome {
                clock,
                answers: sender,
            });
            let none: Vec<std::future::Ready<()>> = Vec::new();
            let thread = start(home, made, calls.clone(), none).unwrap();
            Channel {
                clock,
                calls,
                answers,
                thread: Some(thread),
            }
        }

        fn vote(&self, to: PeerAddress, tag: u64, within: Duration) {
            let deadline = self.clock.now().mono + within;
            let (lane, request) = (Lane::Quorum, VoteRequest::default());
            let call = PeerCall::new(to, lane, request, deadline, Asker::Quorum, tag);
            self.calls.send(Some(call)).unwrap();
        }

        fn answer(&self) -> (u64, Result<VoteResponse, Unanswered>) {
            let answer = self.answers.recv_timeout(BOUND).unwrap();
            (answer.tag, answer.decode::<VoteRequest>())
        }
    }

    impl Drop for Channel {
        fn drop(&mut self) {
            self.calls.send(None).ok();
            drop(self.thread.take().unwrap().join());
        }
    }

    fn listen() -> (TcpListener, PeerAddress) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let host = "127.0.0.1".to_owned();
        (listener, PeerAddress::At { host, port })
    }

    /// A request's API, version and correlation id; `None` where the connection ended.
    fn request(stream: &mut TcpStream) -> Option<(ApiKey, i16, i32)> {
        let mut length = [0; 4];
        stream.read_exact(&mut length).ok()?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut frame).unwrap();
        let two = |at: usize| i16::from_be_bytes([frame[at], frame[at + 1]]);
        let correlation = i32::from_be_bytes(frame[4..8].try_into().unwrap());
        Some((ApiKey::from_code(two(0)).unwrap(), two(2), correlation))
    }

    fn send<M: milena_protocol::Message>(stream: &mut TcpStream, to: (ApiKey, i16, i32), body: &M) {
        let frame = Frame::response(to.0, to.1, to.2, body, Vec::new()).unwrap();
        for part in frame.parts {
            let milena_net::Part::Bytes(bytes) = part else {
                panic!("bytes only");
            };
            stream.write_all(&bytes).unwrap();
        }
    }

    /// Says that Vote is served up to version 1 (and nothing else).
    fn shake_hands(listener: &TcpListener) -> TcpStream {
        let (mut stream, _) = listener.accept().unwrap();
        let asked = request(&mut stream).unwrap();
        assert_eq!(asked.0, ApiKey::ApiVersions);
        let vote = ApiVersion {
            api_key: ApiKey::Vote.code(),
            min_version: 0,
            max_version: 1,
        };
        let body = ApiVersionsResponse {
            api_keys: vec![vote],
            ..ApiVersionsResponse::default()
        };
        send(&mut stream, asked, &body);
        stream
    }

    #[test]
    fn calls_share_a_connection_and_are_answered_in_their_order() {
        let channel = Channel::start();
        let (listener, to) = listen();
        for tag in [11, 12] {
            channel.vote(to.clone(), tag, BOUND);
        }
        let mut stream = shake_hands(&listener);
        // Both are under way before the first answer.
        let asked = [(); 2].map(|()| request(&mut stream).unwrap());
        assert_eq!(asked.map(|r| r.1), [1, 1], "the highest common version");
        for (at, asked) in asked.into_iter().enumerate() {
            let body = VoteResponse {
                error_code: at as i16,
                ..VoteResponse::default()
            };
            send(&mut stream, asked, &body);
        }
        for (tag, code) in [(11, 0), (12, 1)] {
            let (got, answer) = channel.answer();
            assert_eq!((got, answer.unwrap().error_code), (tag, code));
        }
    }

    #[test]
    fn what_can_not_be_asked_is_said() {
        let channel = Channel::start();
        channel.vote(PeerAddress::Broker(milena_base::BrokerId(9)), 1, BOUND);
        assert_eq!(channel.answer(), (1, Err(Unanswered::Unknown)));
        let (listener, to) = listen();
        let deadline = channel.clock.now().mono + BOUND;
        let request = DescribeQuorumRequest::default();
        let call = PeerCall::new(to, Lane::Quorum, request, deadline, Asker::Quorum, 2);
        channel.calls.send(Some(call)).unwrap();
        drop(shake_hands(&listener));
        let answer = channel.answers.recv_timeout(BOUND).unwrap();
        let answer: Result<DescribeQuorumResponse, _> = answer.decode::<DescribeQuorumRequest>();
        assert_eq!(answer, Err(Unanswered::UnsupportedVersion));
    }

    #[test]
    fn a_closed_port_is_refused_and_an_open_one_reached_again() {
        let channel = Channel::start();
        let (listener, to) = listen();
        let PeerAddress::At { port, .. } = to else {
            panic!("an address");
        };
        drop(listener);
        channel.vote(to.clone(), 1, BOUND);
        assert_eq!(channel.answer(), (1, Err(Unanswered::Refused)));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        channel.vote(to.clone(), 2, BOUND);
        let mut stream = shake_hands(&listener);
        let asked = self::request(&mut stream).unwrap();
        send(&mut stream, asked, &VoteResponse::default());
        assert!(channel.answer().1.is_ok());
        // The peer closes: the call under way ends, the next one has a new connection.
        channel.vote(to.clone(), 3, BOUND);
        assert!(self::request(&mut stream).is_some());
        drop(stream);
        assert_eq!(channel.answer(), (3, Err(Unanswered::Unreachable)));
        channel.vote(to, 4, BOUND);
        let mut stream = shake_hands(&listener);
        assert!(self::request(&mut stream).is_some());
    }

    #[test]
    fn silence_ends_the_call_at_its_deadline_and_the_connection_with_it() {
        let channel = Channel::start();
        let (listener, to) = listen();
        channel.vote(to.clone(), 1, Duration::from_millis(300));
        let mut stream = shake_hands(&listener);
        channel.vote(to, 2, BOUND);
        assert_eq!(channel.answer(), (1, Err(Unanswered::TimedOut)));
        assert_eq!(channel.answer(), (2, Err(Unanswered::Unreachable)));
        while request(&mut stream).is_some() {}
    }
}
