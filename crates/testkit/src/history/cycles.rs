//! Cycles among ops (Adya): who wrote before whom (ww), who read whose writes (wr), who read what was written over, or
//! on, only later (rw).

use std::collections::{BTreeMap, BTreeSet};

use super::logs::{Logs, steps};
use super::{Kind, Op, Report, Step};

type Graph = BTreeMap<usize, BTreeSet<usize>>;

pub(super) fn check(ops: &[Op], logs: &Logs, report: &mut Report) {
    let (writes, successors) = writes(logs);
    let (reads, anti) = reads(ops, logs, &successors);
    let g0 = cycles(&writes).len() as u64;
    if g0 > 0 {
        report.allowed.insert("G0", g0);
    }
    for ops in cycles(&reads) {
        let shown: Vec<&usize> = ops.iter().take(8).collect();
        report.found(
            Kind::G1c,
            format!("{} ops, among them {shown:?}", ops.len()),
        );
    }
    let mut all = reads;
    for (from, to) in anti {
        all.entry(from).or_default().extend(to);
    }
    let found = cycles(&all).len() as u64;
    if found > 0 {
        report.allowed.insert("G-single or G2", found);
    }
}

/// ww, and the op that wrote next behind each place.
fn writes(logs: &Logs) -> (Graph, BTreeMap<(u32, i64), usize>) {
    let (mut graph, mut successors) = (Graph::new(), BTreeMap::new());
    for partition in logs.partitions() {
        let mut before: Option<(i64, usize)> = None;
        for (offset, value) in logs.known_of(partition) {
            let Some(sent) = logs.sent.get(&value) else {
                continue;
            };
            if let Some((at, op)) = before.replace((offset, sent.op)) {
                successors.insert((partition, at), sent.op);
                add(&mut graph, op, sent.op);
            }
        }
    }
    (graph, successors)
}

/// wr and rw.
fn reads(ops: &[Op], logs: &Logs, successors: &BTreeMap<(u32, i64), usize>) -> (Graph, Graph) {
    let (mut reads, mut anti) = (Graph::new(), Graph::new());
    for (op, step) in steps(ops) {
        let Step::Poll { partition, records } = step else {
            continue;
        };
        for (_, value) in records {
            if let Some(sent) = logs.sent.get(value) {
                add(&mut reads, sent.op, op);
            }
        }
        let next = records
            .last()
            .and_then(|(offset, _)| successors.get(&(*partition, *offset)));
        if let Some(next) = next {
            add(&mut anti, op, *next);
        }
    }
    (reads, anti)
}

fn add(graph: &mut Graph, from: usize, to: usize) {
    if from != to {
        graph.entry(from).or_default().insert(to);
    }
}

/// The sets of more than one op that reach one another (Tarjan, without recursion).
fn cycles(graph: &Graph) -> Vec<Vec<usize>> {
    let mut search = Search::default();
    for root in graph.keys() {
        if !search.numbers.contains_key(root) {
            search.from(graph, *root);
        }
    }
    search.found
}

#[derive(Default)]
struct Search {
    numbers: BTreeMap<usize, usize>,
    lowest: BTreeMap<usize, usize>,
    open: Vec<usize>,
    is_open: BTreeSet<usize>,
    found: Vec<Vec<usize>>,
}

impl Search {
    fn from(&mut self, graph: &Graph, root: usize) {
        let targets = |node: usize| -> Vec<usize> {
            let to = graph.get(&node).into_iter().flatten();
            to.copied().collect()
        };
        self.enter(root);
        let mut path = vec![(root, targets(root))];
        while let Some((node, left)) = path.last_mut() {
            let node = *node;
            match left.pop() {
                Some(to) if !self.numbers.contains_key(&to) => {
                    self.enter(to);
                    path.push((to, targets(to)));
                }
                Some(to) if self.is_open.contains(&to) => self.lower(node, self.numbers[&to]),
                Some(_) => {}
                None => {
                    path.pop();
                    if let Some((parent, _)) = path.last() {
                        self.lower(*parent, self.lowest[&node]);
                    }
                    self.leave(node);
                }
            }
        }
    }

    fn enter(&mut self, node: usize) {
        let number = self.numbers.len();
        self.numbers.insert(node, number);
        self.lowest.insert(node, number);
        self.open.push(node);
        self.is_open.insert(node);
    }

    fn lower(&mut self, node: usize, to: usize) {
        let lowest = self.lowest.get_mut(&node).expect("it was entered");
        *lowest = to.min(*lowest);
    }

    fn leave(&mut self, node: usize) {
        if self.lowest[&node] != self.numbers[&node] {
            return;
        }
        let mut members = Vec::new();
        while let Some(member) = self.open.pop() {
            self.is_open.remove(&member);
            members.push(member);
            if member == node {
                break;
            }
        }
        if members.len() > 1 {
            members.reverse();
            self.found.push(members);
        }
    }
}
