//! What arrives: at a node's listeners, at its links, and at the clients.

use std::net::{IpAddr, Ipv4Addr};

use bytes::{Buf, Bytes, BytesMut};
use milena_broker::{ConnectionId, Ctx, ListenerKind, PeerCall, Reply, ReplyTo, Unanswered};
use milena_net::{Connection, Frame, Incoming, Limits, Part, call};
use milena_protocol::{ApiKey, ApiVersionsRequest, Str};

use crate::link::Want;
use crate::net::{ConnId, Opener, Parcel};
use crate::plan::{MICRO, MILLI, SECOND, Time};
use crate::world::{Event, World};

const API_VERSIONS: i16 = 4;
/// How long until a lost SYN is sent again, and when a client gives up.
const SYN_AGAIN: Time = SECOND;
/// How often a listener that does not accept yet is looked at.
const BACKLOG_AGAIN: Time = 5 * MILLI;
/// The port of the controllers' listener; the brokers' is another.
pub const CONTROLLER_PORT: u16 = 9093;
pub const BROKER_PORT: u16 = 9092;

impl World {
    /// A connection to a listener of a node, as soon as the network lets it.
    fn connect(&mut self, opener: Opener, server: usize, listener: usize) -> ConnId {
        let from = match opener {
            Opener::Link { node, .. } => node,
            Opener::Client { index } => self.nodes.len() + index,
        };
        let conn = self.net.add(opener, from, server, listener);
        let at = self.now + self.net.delay(from, server);
        self.at(at, Event::Syn { conn });
        conn
    }

    pub fn syn(&mut self, id: ConnId) {
        let now = self.now;
        let Some(conn) = self.net.get(id) else {
            return;
        };
        if !conn.open {
            return self.net.forget(id);
        }
        let (server, listener, opener) = (conn.server, conn.listener, conn.opener);
        let from = match opener {
            Opener::Link { node, .. } => node,
            Opener::Client { index } => self.nodes.len() + index,
        };
        if !self.net.meets(from, server) || self.nodes[server].is_dark() {
            return self.at(now + SYN_AGAIN, Event::Syn { conn: id });
        }
        let life = self.nodes[server].life;
        let live = self.nodes[server].live.as_ref();
        let accepts = live.is_some_and(|live| !live.left);
        if live.is_some_and(|live| !live.serves(listener)) {
            // Bound, but nobody takes the connection yet.
            return self.at(now + BACKLOG_AGAIN, Event::Syn { conn: id });
        }
        let conn = self.net.get(id).expect("it was there");
        let parcel = match accepts {
            true => {
                conn.end = Some(Connection::new(Limits::default()));
                conn.server_life = life;
                Parcel::Opened
            }
            false => Parcel::Refused,
        };
        let departure = self.net.send(id, false, parcel, now);
        self.depart(departure);
    }

    pub fn arrive_at_server(&mut self, id: ConnId, parcel: Parcel) {
        let Some(conn) = self.net.get(id) else {
            return;
        };
        let Some(end) = &mut conn.end else {
            // A reset answers what comes to a closed end; a machine without power answers nothing.
            if let Parcel::Frame(_) = parcel {
                let dark = self.nodes[conn.server].is_dark();
                if !dark {
                    let departure = self.net.send(id, false, Parcel::Closed, self.now);
                    self.depart(departure);
                }
            }
            return self.net.forget_if_closed(id);
        };
        match parcel {
            Parcel::Frame(bytes) => {
                end.read_buffer().extend_from_slice(&bytes);
                self.digest.bytes(&bytes);
                self.note_fetch(id, &bytes);
                self.serve(id);
            }
            Parcel::Closed | Parcel::Opened | Parcel::Refused => {
                conn.end = None;
                self.net.forget_if_closed(id);
            }
        }
    }

    /// Voters' fetches are what keeps a quorum's leader.
    fn note_fetch(&mut self, id: ConnId, frame: &[u8]) {
        let fetches = frame.get(4..6) == Some(&ApiKey::Fetch.code().to_be_bytes());
        let now = self.now;
        let Some(conn) = self.net.get(id).filter(|_| fetches) else {
            return;
        };
        let (server, listener, opener) = (conn.server, conn.listener, conn.opener);
        let Opener::Link { node, .. } = opener else {
            return;
        };
        let live = self.nodes[server].live.as_ref();
        let is_quorum = live
            .is_some_and(|live| live.broker.listener_kind(listener) == ListenerKind::Controller);
        if is_quorum {
            self.council.fetch_arrived(server, node, now);
        }
    }

    /// Executes what has arrived whole and may run, then sends what is finished.
    fn serve(&mut self, id: ConnId) {
        loop {
            let Some(conn) = self.net.get(id) else {
                return;
            };
            let (server, listener) = (conn.server, conn.listener);
            let Some(live) = &self.nodes[server].live else {
                return;
            };
            let broker = live.broker.clone();
            let Some(end) = &mut conn.end else {
                return;
            };
            let serves = |api, version| broker.serves(listener, api, version);
            match end.next_request(serves) {
                Ok(Some(incoming)) => {
                    if !self.execute(id, server, listener, incoming) {
                        return;
                    }
                }
                Ok(None) => break,
                Err(why) => return self.close_server_end(id, &why.to_string()),
            }
        }
        self.transmit(id);
    }

    /// False where the connection or the node is gone by it.
    fn execute(&mut self, id: ConnId, server: usize, listener: usize, incoming: Incoming) -> bool {
        let sequence = incoming.sequence;
        let to = ReplyTo {
            connection: ConnectionId(id),
            sequence,
            api: incoming.api,
            version: incoming.version,
            correlation_id: incoming.correlation_id,
            envelope: None,
        };
        let client_id = incoming.client_id.clone();
        let reply = self.on_node(server, |live, now, out| {
            let ctx = Ctx {
                to,
                client_id,
                client_host: IpAddr::V4(Ipv4Addr::LOCALHOST),
                principal: None,
                listener,
                now,
            };
            live.broker.handle(&ctx, incoming, out)
        });
        let Some(reply) = reply else {
            return false;
        };
        let Some(end) = self.net.get(id).and_then(|conn| conn.end.as_mut()) else {
            return false;
        };
        match reply {
            Reply::Now(frame) => end.complete(sequence, Some(frame)),
            Reply::Silent => end.complete(sequence, None),
            Reply::Parked => {}
            Reply::Held => end.hold(sequence),
            Reply::Close(why) => {
                self.close_server_end(id, &why);
                return false;
            }
        }
        true
    }

    fn transmit(&mut self, id: ConnId) {
        while let Some(end) = self.net.get(id).and_then(|conn| conn.end.as_mut()) {
            let Some(frame) = end.poll_transmit() else {
                return;
            };
            match bytes_of(&frame) {
                Ok(bytes) => {
                    self.digest.bytes(&bytes);
                    let departure = self.net.send(id, false, Parcel::Frame(bytes), self.now);
                    self.depart(departure);
                }
                Err(why) => return self.close_server_end(id, &why),
            }
        }
    }

    pub fn late_answer(&mut self, to: ReplyTo, frame: Frame) {
        let id = to.connection.0;
        if let Some(end) = self.net.get(id).and_then(|conn| conn.end.as_mut()) {
            end.complete(to.sequence, Some(frame));
            self.serve(id);
        }
    }

    fn close_server_end(&mut self, id: ConnId, why: &str) {
        let Some(conn) = self.net.get(id) else {
            return;
        };
        conn.end = None;
        let server = conn.server;
        self.note_node(server, format!("closes a connection: {why}"));
        let departure = self.net.send(id, false, Parcel::Closed, self.now);
        self.depart(departure);
    }

    pub fn arrive_at_opener(&mut self, id: ConnId, parcel: Parcel) {
        let Some(conn) = self.net.get(id) else {
            return;
        };
        if !conn.open {
            return self.net.forget_if_closed(id);
        }
        let opener = conn.opener;
        match opener {
            Opener::Link { node, life, link } if self.lives(node, life) => {
                self.link_parcel(node, link, id, parcel);
            }
            Opener::Link { .. } => {}
            Opener::Client { index } => self.client_parcel(index, id, parcel),
        }
    }

    pub fn opener_lost(&mut self, opener: Opener, id: ConnId) {
        match opener {
            Opener::Link { node, life, link } if self.lives(node, life) => {
                self.link_parcel(node, link, id, Parcel::Closed);
            }
            Opener::Link { .. } => {}
            Opener::Client { index } => self.client_parcel(index, id, Parcel::Closed),
        }
    }

    // A node's links.

    pub fn call(&mut self, node: usize, call: PeerCall) {
        let live = self.nodes[node].live.as_mut().expect("it called");
        let Some((host, port)) = live.broker.resolve_peer(&call.to) else {
            let post = call.end(Err(Unanswered::Unknown)).into_post();
            return self.post(node, post);
        };
        let link = live.links.to((host, port, call.lane));
        let mut wants = Vec::new();
        live.links
            .all
            .get_mut(&link)
            .expect("it was just made")
            .queue(call, &mut wants);
        self.carry_out(node, link, wants);
        self.link_due(node, link);
    }

    pub fn link_due(&mut self, node: usize, link: u64) {
        let now = self.now;
        let mono = self.nodes[node].clock(now).mono;
        let id = self.nodes[node].id();
        let live = self.nodes[node].live.as_mut().expect("it lives");
        let Some(at) = live.links.all.get_mut(&link) else {
            return;
        };
        if at.timer <= now {
            at.timer = Time::MAX;
        }
        let client_id = Str::from(at.target.2.client_id(milena_base::BrokerId(id)));
        let mut wants = Vec::new();
        at.drive(now, |deadline| deadline <= mono, &client_id, &mut wants);
        self.carry_out(node, link, wants);
        self.schedule_link(node, link);
    }

    fn schedule_link(&mut self, node: usize, link: u64) {
        let (now, life) = (self.now, self.nodes[node].life);
        let Some(live) = &self.nodes[node].live else {
            return;
        };
        let (deadline, at) = live.links.all[&link].deadlines();
        let at = at.min(self.nodes[node].time_of(deadline)).max(now + MICRO);
        let live = self.nodes[node].live.as_mut().expect("it was there");
        let state = live.links.all.get_mut(&link).expect("it was there");
        if at < state.timer {
            state.timer = at;
            self.at(at, Event::Link { node, life, link });
        }
    }

    fn carry_out(&mut self, node: usize, link: u64, wants: Vec<Want>) {
        for want in wants {
            match want {
                Want::Connect => self.link_connect(node, link),
                Want::Close(conn) => self.close_opener_end(conn),
                Want::Send(conn, frame) => self.send_up(conn, frame),
                Want::Answer(answer) => {
                    let post = answer.into_post();
                    self.digest_post(node, &post);
                    self.post(node, post);
                }
            }
        }
    }

    fn link_connect(&mut self, node: usize, link: u64) {
        let life = self.nodes[node].life;
        let live = self.nodes[node].live.as_ref().expect("it connects");
        let (host, port, _) = live.links.all[&link].target.clone();
        let server = host
            .strip_prefix('n')
            .and_then(|id| id.parse::<usize>().ok());
        let server = server.expect("hosts are n1, n2, …") - 1;
        let listener = self.nodes[server].listener_of(port);
        let opener = Opener::Link { node, life, link };
        let conn = self.connect(opener, server, listener);
        let now = self.now;
        let live = self.nodes[node].live.as_mut().expect("it connects");
        let state = live.links.all.get_mut(&link).expect("it connects");
        state.connecting(conn, now);
    }

    fn close_opener_end(&mut self, id: ConnId) {
        if let Some(conn) = self.net.get(id) {
            conn.open = false;
            let departure = self.net.send(id, true, Parcel::Closed, self.now);
            self.depart(departure);
        }
    }

    fn send_up(&mut self, id: ConnId, frame: Bytes) {
        self.digest.bytes(&frame);
        let departure = self.net.send(id, true, Parcel::Frame(frame), self.now);
        self.depart(departure);
    }

    fn link_parcel(&mut self, node: usize, link: u64, id: ConnId, parcel: Parcel) {
        let now = self.now;
        let live = self.nodes[node].live.as_mut().expect("it lives");
        let Some(state) = live.links.all.get_mut(&link).filter(|l| l.uses(id)) else {
            return;
        };
        let mut wants = Vec::new();
        match parcel {
            Parcel::Opened => {
                let client_id = state.target.2.client_id(live.broker.node());
                let frame = handshake(&client_id);
                return self.send_up(id, frame);
            }
            Parcel::Refused => state.fail(Unanswered::Refused, now, &mut wants),
            Parcel::Closed if state.is_open() => {
                state.end(Unanswered::Unreachable, now, &mut wants);
            }
            Parcel::Closed => state.fail(Unanswered::Unreachable, now, &mut wants),
            Parcel::Frame(mut frame) => {
                frame.advance(4);
                if state.is_open() {
                    if !state.answered(frame, &mut wants) {
                        state.end(Unanswered::Unreachable, now, &mut wants);
                    }
                } else {
                    match call::decode::<ApiVersionsRequest>(frame, API_VERSIONS) {
                        Ok(versions) => state.opened(id, &versions),
                        Err(_) => state.fail(Unanswered::Unreachable, now, &mut wants),
                    }
                }
            }
        }
        self.carry_out(node, link, wants);
        self.link_due(node, link);
    }

    // Clients.

    pub fn client_connect(&mut self, index: usize, node: usize) -> ConnId {
        let listener = self.nodes[node].listener_of(BROKER_PORT);
        self.connect(Opener::Client { index }, node, listener)
    }

    pub fn client_send(&mut self, id: ConnId, frame: Bytes) {
        self.send_up(id, frame);
    }

    pub fn client_close(&mut self, id: ConnId) {
        self.close_opener_end(id);
    }
}

/// What a node says first on a link.
fn handshake(client_id: &str) -> Bytes {
    let request = ApiVersionsRequest {
        client_software_name: "milena".into(),
        client_software_version: "sim".into(),
        ..ApiVersionsRequest::default()
    };
    let client_id = Some(Str::from(client_id.to_owned()));
    call::encode(&request, API_VERSIONS, -1, client_id).expect("it always has a form")
}

/// The bytes that the edge would send. Fails where a slice was truncated away, or can't be read.
fn bytes_of(frame: &Frame) -> Result<Bytes, String> {
    let mut bytes = BytesMut::with_capacity(frame.len());
    for part in &frame.parts {
        match part {
            Part::Bytes(part) => bytes.extend_from_slice(part),
            Part::Slice(slice) if slice.still_valid() => {
                let read = slice.read().map_err(|error| error.to_string())?;
                bytes.extend_from_slice(&read);
            }
            Part::Slice(_) => return Err("a slice was truncated away".into()),
        }
    }
    Ok(bytes.freeze())
}
