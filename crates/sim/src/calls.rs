//! The clients' turns: their timers, their lines, and what they learn.

use bytes::Buf;

use crate::atlas::Check;
use crate::clients::{Actor, Asked, Cx, Line};
use crate::net::{ConnId, Parcel};
use crate::plan::{MICRO, Time};
use crate::world::{Event, World};

impl World {
    /// Lets a client act, and carries out what it asks.
    fn turn(&mut self, index: usize, body: impl FnOnce(&mut dyn Actor, &mut Cx<'_>) -> Check) {
        let nodes = self.nodes.len();
        let client = &mut self.clients[index];
        let mut cx = Cx {
            now: self.now,
            prng: &mut client.prng,
            atlas: &self.atlas,
            nodes,
            asked: Vec::new(),
            notes: Vec::new(),
        };
        let checked = body(client.actor.as_mut(), &mut cx);
        let (asked, notes) = (cx.asked, cx.notes);
        let name = client.name.clone();
        notes.into_iter().for_each(|note| self.note(&name, note));
        self.check(checked);
        for asked in asked {
            self.client_ask(index, &asked);
        }
        self.schedule_client(index);
    }

    pub fn client_due(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.timer > self.now {
            return;
        }
        client.timer = Time::MAX;
        let now = self.now;
        let late = client.lines.iter().filter(|(_, line)| line.is_late(now));
        let late: Vec<usize> = late.map(|(node, _)| *node).collect();
        for node in late {
            self.lose(index, node);
        }
        if self.clients[index].actor.wakes_at() <= now {
            self.turn(index, |actor, cx| actor.tick(cx));
        } else {
            self.schedule_client(index);
        }
    }

    pub fn schedule_client(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let lines = client.lines.values().map(Line::deadline).min();
        let at = client.actor.wakes_at().min(lines.unwrap_or(Time::MAX));
        let at = at.max(self.now + MICRO);
        if at < client.timer {
            client.timer = at;
            self.at(at, Event::Client { index });
        }
    }

    fn client_ask(&mut self, index: usize, asked: &Asked) {
        let node = asked.node;
        if !self.clients[index].lines.contains_key(&node) {
            let conn = self.client_connect(index, node);
            self.clients[index].lines.insert(node, Line::new(conn));
        }
        let now = self.now;
        let client = &mut self.clients[index];
        let line = client.lines.get_mut(&node).expect("it was just made");
        let frame = line.put(asked, &client.name, now);
        match line.open {
            true => {
                let conn = line.conn;
                self.client_send(conn, frame);
            }
            false => line.unsent.push(frame),
        }
    }

    pub fn client_parcel(&mut self, index: usize, id: ConnId, parcel: Parcel) {
        let lines = &mut self.clients[index].lines;
        let Some((&node, line)) = lines.iter_mut().find(|(_, line)| line.conn == id) else {
            return;
        };
        match parcel {
            Parcel::Opened => {
                line.open = true;
                for frame in std::mem::take(&mut line.unsent) {
                    self.client_send(id, frame);
                }
            }
            Parcel::Frame(mut frame) => {
                frame.advance(4);
                match line.take(frame) {
                    Some((tag, answer)) => {
                        self.turn(index, |actor, cx| actor.answered(tag, Some(answer), cx));
                    }
                    None => self.lose(index, node),
                }
            }
            Parcel::Refused | Parcel::Closed => self.lose(index, node),
        }
    }

    /// A client's connection is gone: what it asked there gets no answer.
    fn lose(&mut self, index: usize, node: usize) {
        let Some(line) = self.clients[index].lines.remove(&node) else {
            return;
        };
        self.client_close(line.conn);
        for tag in line.lost() {
            self.turn(index, |actor, cx| actor.answered(tag, None, cx));
        }
    }
}
