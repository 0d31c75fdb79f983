//! Nodes, their connections and sessions, driven by commands.

use std::{collections::BTreeMap, convert::Infallible, fmt::Write, mem};

use arcwise_proto::{
    Aspect, AspectKey, AuthorKey, NodeId, SpaceId, Time,
    ring::ArcSet,
    session::{
        Binding, Constraints, ControlOutput, Digest, Holdings, LocalSpace, PeerSpace, Position,
        SessionError, shared_arcs, yields,
    },
    wire::{
        AspectBroadcast, AspectDataRequest, AspectDataResponse, ErrorCode, ErrorMessage, Listed,
        Message,
    },
};

use crate::{
    model::{ControlEnd, End, Memory, SPACE, Wire, numbered},
    show,
};

/// The spaces there are, by name.
const SPACES: [(&str, SpaceId); 3] =
    [("notes", SPACE), ("photos", SpaceId([0x0f; 32])), ("music", SpaceId([0x3d; 32]))];

struct Node {
    name: String,
    id: NodeId,
    spaces: Vec<LocalSpace>,
    store: Memory,
    /// Where the last session with another node ended.
    marks: BTreeMap<usize, (Position, Position)>,
}

/// The control stream between two nodes; the first has dialled.
struct Link {
    nodes: [usize; 2],
    ends: [ControlEnd; 2],
    /// What either knows of the other.
    known: [BTreeMap<SpaceId, PeerSpace>; 2],
}

/// The stream of a gossip session; the first node has opened it.
struct Stream {
    nodes: [usize; 2],
    ends: [End; 2],
    /// Whether anything has come from the other end.
    heard: [bool; 2],
    /// Nothing more is to happen at this end.
    over: [bool; 2],
}

/// Broadcasts on their way.
struct Push {
    from: usize,
    to: usize,
    broadcast: AspectBroadcast,
}

/// Everything there is; what the first node sees is told.
#[derive(Default)]
pub(crate) struct World {
    nodes: Vec<Node>,
    links: Vec<Link>,
    streams: Vec<Stream>,
    pushes: Vec<Push>,
    told: String,
}

impl World {
    pub(crate) fn told(&mut self) -> String {
        mem::take(&mut self.told)
    }

    pub(crate) fn run(&mut self, command: &str) {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            ["new"] => *self = World { told: self.told(), ..World::default() },
            ["node", name, ref spaces @ ..] => self.node(name, spaces),
            ["spaces", name, ref spaces @ ..] => self.spaces(name, spaces),
            ["holds", name, ref aspects @ ..] => {
                let node = self.at(name);
                numbers(aspects).into_iter().for_each(|a| self.nodes[node].store.insert(a));
            }
            ["loses", name, ref aspects @ ..] => {
                let node = self.at(name);
                for aspect in numbers(aspects) {
                    self.nodes[node].store.rows.remove(&aspect.key()).expect("it is held");
                }
            }
            ["restored", name] => {
                let node = self.at(name);
                self.nodes[node].store.epoch += 0x10;
            }
            ["connect", dialer, listener] => self.connect(self.at(dialer), self.at(listener)),
            ["ping", from, to] => {
                let (link, side) = self.link(self.at(from), self.at(to));
                let nonce = 0x0102_0304_0506_0708_u64;
                let digests = self.digests(link, side, nonce.to_le_bytes());
                self.control(link, side, |end| end.ping(nonce, &digests));
            }
            ["open", from, to, ref constraints @ ..] => {
                self.open(self.at(from), self.at(to), constraints);
            }
            ["broadcast", from, what, "to", ref to @ ..] => {
                let from = self.at(from);
                let aspects = numbers(&[what]);
                for to in to.iter().map(|to| self.at(to)).collect::<Vec<_>>() {
                    self.broadcast(from, to, &aspects);
                }
            }
            ["deliver", from, to] => while self.deliver(self.at(from), self.at(to)) {},
            ["deliver", from, to, n] => (0..n.parse().unwrap()).for_each(|_: usize| {
                assert!(self.deliver(self.at(from), self.at(to)), "nothing is on the way");
            }),
            ["store", name] => while self.store(self.at(name)) {},
            ["answer", name] => while self.answer(self.at(name)) {},
            ["run"] => self.run_all(),
            ["say", from, to, what, ref aspects @ ..] => {
                self.say(self.at(from), self.at(to), what, &numbers(aspects));
            }
            ["compare", a, b] => self.compare(a, b),
            _ => panic!("no such command: {command}"),
        }
    }

    fn at(&self, name: &str) -> usize {
        let found = self.nodes.iter().position(|node| node.name == name);
        found.unwrap_or_else(|| panic!("no node {name}"))
    }

    fn node(&mut self, name: &str, spaces: &[&str]) {
        let n = self.nodes.len() + 1;
        self.nodes.push(Node {
            name: name.to_owned(),
            id: NodeId([name.as_bytes()[0]; 32]),
            spaces: Vec::new(),
            store: Memory::new(0xa0 + n as u64, []),
            marks: BTreeMap::new(),
        });
        self.spaces(name, spaces);
    }

    fn spaces(&mut self, name: &str, spaces: &[&str]) {
        let node = self.at(name);
        let count = self.nodes[node].store.rows.len() as u64;
        let local = |space: &&str| {
            let (name, arcs) = space.split_once('=').expect("a space is name=arcs");
            let number = SPACES.iter().position(|(known, _)| *known == name).expect("a space");
            let (store, target) = arcs.split_once('/').unwrap_or((arcs, arcs));
            let (store, target): (ArcSet, _) = (store.parse().unwrap(), target.parse().unwrap());
            let query = store.clone();
            let (number, id) = (10 * (node + 1) + number + 1, SPACES[number].1);
            LocalSpace {
                id,
                number: number as u32,
                store,
                target,
                query,
                count,
                bytes: 0,
                full: false,
            }
        };
        self.nodes[node].spaces = spaces.iter().map(local).collect();
        for link in 0..self.links.len() {
            if let Some(side) = self.links[link].nodes.iter().position(|at| *at == node) {
                let spaces = self.nodes[node].spaces.clone();
                self.control(link, side, |end| end.set_spaces(spaces));
            }
        }
    }

    // ---- The control stream

    fn connect(&mut self, dialer: usize, listener: usize) {
        let secret = [self.links.len() as u8; 32];
        for node in [dialer, listener] {
            let count = self.nodes[node].store.rows.len() as u64;
            self.nodes[node].spaces.iter_mut().for_each(|space| space.count = count);
        }
        let end = |node: usize, dialled| {
            let node: &Node = &self.nodes[node];
            ControlEnd::new(secret, dialled, "arcwise", node.spaces.clone())
        };
        let ends = [end(dialer, true), end(listener, false)];
        let nodes = [dialer, listener];
        self.links.push(Link { nodes, ends, known: Default::default() });
        let link = self.links.len() - 1;
        for side in 0..2 {
            let sent = self.links[link].ends[side].outbox.clone();
            sent.iter().for_each(|message| self.tell_control(link, side, "->", message));
        }
    }

    fn link(&self, node: usize, other: usize) -> (usize, usize) {
        let side =
            |link: &Link| (0..2).find(|&at| link.nodes[at] == node && link.nodes[1 - at] == other);
        let found = self.links.iter().enumerate().find_map(|(at, link)| Some((at, side(link)?)));
        found.expect("the two are connected")
    }

    fn control<T>(
        &mut self,
        link: usize,
        side: usize,
        act: impl FnOnce(&mut ControlEnd) -> T,
    ) -> T {
        let before = self.links[link].ends[side].outbox.len();
        let result = act(&mut self.links[link].ends[side]);
        let sent: Vec<Message> =
            self.links[link].ends[side].outbox.iter().skip(before).cloned().collect();
        sent.iter().for_each(|message| self.tell_control(link, side, "->", message));
        let node = self.links[link].nodes[side];
        while let Some(told) = self.links[link].ends[side].told.pop_front() {
            match told {
                ControlOutput::Shared(id, peer) => {
                    let told = format!("shares {} with it", name_of(&id));
                    if self.links[link].known[side].insert(id, peer).is_none() {
                        self.tell_event(node, &told);
                    }
                }
                ControlOutput::Left(id) => {
                    self.links[link].known[side].remove(&id);
                    self.tell_event(node, &format!("no longer shares {} with it", name_of(&id)));
                }
                ControlOutput::Compare { nonce, digests } => {
                    self.pong(link, side, nonce, &digests);
                }
                ControlOutput::Pong { differing, .. } => {
                    for id in differing {
                        self.tell_event(
                            node,
                            &format!("does not hold the same in {}", name_of(&id)),
                        );
                    }
                }
                ControlOutput::Ended(error) => self.tell_event(node, &format!("loses it: {error}")),
                _ => {}
            }
        }
        result
    }

    /// What a node holds of notes, where it and the other end both take it.
    fn digests(&self, link: usize, side: usize, nonce: [u8; 8]) -> Vec<(SpaceId, Digest)> {
        let node = self.links[link].nodes[side];
        let Some(theirs) = self.links[link].known[side].get(&SPACE) else { return Vec::new() };
        let arcs = shared_arcs(self.notes(node), theirs);
        let Ok(digest) = self.nodes[node].store.snapshot().digest(&arcs, &nonce);
        vec![(SPACE, digest)]
    }

    fn pong(&mut self, link: usize, side: usize, nonce: [u8; 8], told: &[(SpaceId, Digest)]) {
        let ours = self.digests(link, side, nonce);
        let differing: Vec<SpaceId> =
            told.iter().filter(|d| !ours.contains(d)).map(|(id, _)| *id).collect();
        self.control(link, side, |end| end.pong(nonce, &differing));
    }

    fn tell_control(&mut self, link: usize, side: usize, arrow: &str, message: &Message) {
        // Whose proofs these are.
        let sender = if arrow == "->" { side } else { 1 - side };
        let binding = Binding::new([link as u8; 32], sender == 0);
        let tags = match message {
            Message::Hello(hello) => &hello.tags[..],
            Message::Handshake(handshake) => &[handshake.tag],
            _ => &[],
        };
        let proven = SPACES.iter().filter(|(_, id)| tags.contains(&binding.our_tag(id)));
        let proven: Vec<&str> = proven.map(|(name, _)| *name).collect();
        let nodes = self.links[link].nodes;
        self.tell(nodes[side], arrow, nodes[1 - side], message, &proven);
    }

    // ---- Sessions

    fn open(&mut self, from: usize, to: usize, constraints: &[&str]) {
        let (link, side) = self.link(from, to);
        let theirs = self.links[link].known[side].get(&SPACE).expect("both are in notes");
        let (number, peer_count) = (theirs.number, theirs.count);
        let arcs = shared_arcs(self.notes(from), theirs);
        let mut given = Constraints::default();
        for constraint in constraints {
            match constraint.split_once('=') {
                Some(("since", at)) => {
                    given.published_since = Some(Time::from_micros(at.parse().unwrap()));
                }
                None if *constraint == "lists" => given.lists = true,
                None if *constraint == "again" => {
                    given.after = Some(self.nodes[from].marks[&to]);
                }
                _ => panic!("no such constraint: {constraint}"),
            }
        }
        let end = |arcs| End::new(Memory::default(), arcs);
        let ends = [End { number, peer_count, ..end(self.arcs(from)) }, end(ArcSet::empty())];
        let nodes = [from, to];
        self.streams.push(Stream { nodes, ends, heard: [false; 2], over: [false; 2] });
        let stream = self.streams.len() - 1;
        self.session(stream, 0, |end| {
            end.open(arcs, given);
            Ok(())
        });
    }

    fn notes(&self, node: usize) -> &LocalSpace {
        let found = self.nodes[node].spaces.iter().find(|space| space.id == SPACE);
        found.expect("the node is in notes")
    }

    fn arcs(&self, node: usize) -> ArcSet {
        let notes = self.notes(node);
        notes.store.union(&notes.target)
    }

    /// Lets one end of a session act, with its node's store, and tells what came of it.
    fn session(
        &mut self,
        stream: usize,
        side: usize,
        act: impl FnOnce(&mut End) -> Result<(), SessionError<Infallible>>,
    ) {
        let Stream { nodes, ends, over, .. } = &mut self.streams[stream];
        if over[side] {
            return;
        }
        let (node, other, end) = (nodes[side], nodes[1 - side], &mut ends[side]);
        let before = end.outbox.len();
        mem::swap(&mut end.store, &mut self.nodes[node].store);
        let result = act(end);
        mem::swap(&mut end.store, &mut self.nodes[node].store);
        let mut gives_up = None;
        if let Err(error) = result {
            over[side] = true;
            match error {
                SessionError::Peer(fault) => {
                    end.outbox.push_back(Wire::Message(fault.message().into()))
                }
                SessionError::UnknownPosition => {
                    let told = ErrorMessage::new(ErrorCode::UnknownPosition, error.to_string());
                    end.outbox.push_back(Wire::Message(told.into()));
                }
                SessionError::TooCostly => {
                    let told = ErrorMessage::new(ErrorCode::TooCostly, error.to_string());
                    end.outbox.push_back(Wire::Message(told.into()));
                }
                SessionError::OtherArcs | SessionError::Full => {
                    let told = ErrorMessage::new(ErrorCode::Busy, error.to_string());
                    end.outbox.push_back(Wire::Message(told.into()));
                }
                SessionError::Ended(error) => gives_up = Some(error.to_string()),
                SessionError::Store(never) => match never {},
            }
        }
        let sent: Vec<Option<Message>> = end.outbox.iter().skip(before).map(message_of).collect();
        for message in sent {
            self.tell_session(node, "->", other, message.as_ref());
        }
        if let Some(error) = gives_up {
            self.tell_event(node, &format!("gives up: {error}"));
        }
        if let Some(report) = self.streams[stream].ends[side].report.take() {
            self.streams[stream].over[side] = true;
            self.tell_event(node, &format!("is done: {}", show::report(&report)));
            match report.positions {
                Some(positions) => drop(self.nodes[node].marks.insert(other, positions)),
                None => drop(self.nodes[node].marks.remove(&other)),
            }
        }
    }

    fn tell_session(&mut self, node: usize, arrow: &str, other: usize, message: Option<&Message>) {
        match message {
            Some(message) => self.tell(node, arrow, other, message, &[]),
            None if node == 0 => {
                let (us, them) = (&self.nodes[node].name, &self.nodes[other].name);
                writeln!(self.told, "{us:<5} {arrow} {them:<5}  end of the stream").unwrap();
            }
            None => {}
        }
    }

    /// A message of a session has come.
    fn receive(&mut self, stream: usize, side: usize, wire: Wire) {
        let Stream { nodes, heard, .. } = &mut self.streams[stream];
        let (node, other) = (nodes[side], nodes[1 - side]);
        let first = !mem::replace(&mut heard[side], true);
        self.tell_session(node, "<-", other, message_of(&wire).as_ref());
        if first && side == 1 {
            self.streams[stream].ends[1].arcs = self.arcs(node);
            if let Some(code) = self.rival(stream, node, other) {
                let text = "another session of this space with you is under way";
                let told = Message::from(ErrorMessage::new(code, text));
                self.tell_session(node, "->", other, Some(&told));
                let Stream { ends, over, .. } = &mut self.streams[stream];
                ends[side].outbox.push_back(Wire::Message(told));
                over[side] = true;
                return;
            }
        }
        self.session(stream, side, |end| end.receive(wire));
    }

    /// `other` opens a session with `node`: whether another one of the two is in its way. One that the
    /// other has not answered may give way itself.
    fn rival(&mut self, stream: usize, node: usize, other: usize) -> Option<ErrorCode> {
        let (ours, theirs) = (self.nodes[node].id, self.nodes[other].id);
        let open = |(at, rival): (usize, &Stream)| {
            let side = (0..2).find(|&s| rival.nodes[s] == node && rival.nodes[1 - s] == other)?;
            let runs = at != stream && !rival.over[side] && rival.ends[side].session.is_some();
            runs.then_some((at, side))
        };
        let (rival, side) = self.streams.iter().enumerate().find_map(open)?;
        if side == 1 || self.streams[rival].heard[0] {
            return Some(ErrorCode::Busy);
        }
        if !yields(&ours, &theirs) {
            return Some(ErrorCode::Superseded);
        }
        self.streams[rival].over[0] = true;
        self.streams[rival].ends[0].outbox.clear();
        self.tell_event(node, "gives way, and resets its stream");
        None
    }

    /// Sends on a session's stream what the machine there would not send.
    fn say(&mut self, from: usize, to: usize, what: &str, aspects: &[Aspect]) {
        let keys: Vec<AspectKey> = aspects.iter().map(Aspect::key).collect();
        let wire = match what {
            "wants" => Wire::Message(AspectDataRequest::keys(keys).into()),
            "lists" => Wire::Message(Listed { keys, last: false, position: None }.into()),
            "gives" => {
                Wire::Message(AspectDataResponse { aspects: aspects.to_vec(), gone: vec![] }.into())
            }
            "ends" => Wire::End,
            _ => panic!("nobody can say {what}"),
        };
        let side = |stream: &&mut Stream| {
            (0..2).any(|at| {
                stream.nodes[at] == from && stream.nodes[1 - at] == to && !stream.over[at]
            })
        };
        let stream = self.streams.iter_mut().find(side).expect("a session is open");
        let side = usize::from(stream.nodes[1] == from);
        // His machine is no longer in charge.
        stream.over[side] = true;
        stream.ends[side].outbox.clear();
        stream.ends[side].outbox.push_back(wire);
    }

    // ---- Broadcasts

    fn broadcast(&mut self, from: usize, to: usize, aspects: &[Aspect]) {
        let (link, side) = self.link(from, to);
        let space = self.links[link].known[side][&SPACE].number;
        aspects.iter().for_each(|aspect| self.nodes[from].store.insert(aspect.clone()));
        let broadcast = AspectBroadcast { space, aspects: aspects.to_vec() };
        self.tell(from, "->", to, &broadcast.clone().into(), &[]);
        self.pushes.push(Push { from, to, broadcast });
    }

    // ---- What drives it all

    /// Brings the next message from one node to another; false where none is on the way.
    fn deliver(&mut self, from: usize, to: usize) -> bool {
        for link in 0..self.links.len() {
            let Some(side) = (0..2).find(|&at| {
                self.links[link].nodes[at] == to && self.links[link].nodes[1 - at] == from
            }) else {
                continue;
            };
            if let Some(message) = self.links[link].ends[1 - side].outbox.pop_front() {
                self.tell_control(link, side, "<-", &message);
                let fault = self.control(link, side, |end| end.receive(message));
                fault.expect("no file has a fault on the control stream");
                return true;
            }
        }
        for stream in 0..self.streams.len() {
            let Stream { nodes, ends, .. } = &mut self.streams[stream];
            let Some(side) = (0..2).find(|&at| nodes[at] == to && nodes[1 - at] == from) else {
                continue;
            };
            if let Some(wire) = ends[1 - side].outbox.pop_front() {
                self.receive(stream, side, wire);
                return true;
            }
        }
        if let Some(at) = self.pushes.iter().position(|push| (push.from, push.to) == (from, to)) {
            let push = self.pushes.remove(at);
            let (all, aspects) = (push.broadcast.clone().into(), push.broadcast.aspects);
            self.tell(to, "<-", from, &all, &[]);
            let arcs = self.arcs(to);
            let believed = aspects
                .into_iter()
                .filter(|aspect| arcs.contains(aspect.location()) && aspect.verify(&SPACE).is_ok());
            believed.for_each(|aspect| self.nodes[to].store.insert(aspect));
            return true;
        }
        false
    }

    fn store(&mut self, node: usize) -> bool {
        self.each_end(
            node,
            |end| !end.storing.is_empty(),
            |world, stream, side| {
                let batch = &world.streams[stream].ends[side].storing[0];
                let told = format!("stores {}", batch.len());
                world.tell_event(node, &told);
                world.session(stream, side, |end| end.store().expect("there is a batch"));
            },
        )
    }

    fn answer(&mut self, node: usize) -> bool {
        self.each_end(
            node,
            |end| !end.answering.is_empty(),
            |world, stream, side| {
                world.session(stream, side, |end| end.reply().expect("there is a request"));
            },
        )
    }

    fn each_end(
        &mut self,
        node: usize,
        ready: impl Fn(&End) -> bool,
        act: impl Fn(&mut World, usize, usize),
    ) -> bool {
        for stream in 0..self.streams.len() {
            for side in 0..2 {
                let Stream { nodes, ends, over, .. } = &self.streams[stream];
                if nodes[side] == node && !over[side] && ready(&ends[side]) {
                    act(self, stream, side);
                    return true;
                }
            }
        }
        false
    }

    fn run_all(&mut self) {
        let all = 0..self.nodes.len();
        loop {
            let mut moved = false;
            for node in all.clone() {
                moved |= self.store(node) | self.answer(node);
                for from in all.clone() {
                    moved |= self.deliver(from, node);
                }
            }
            if !moved {
                return;
            }
        }
    }

    // ---- What is told

    fn tell(&mut self, node: usize, arrow: &str, other: usize, message: &Message, proven: &[&str]) {
        if node != 0 {
            return;
        }
        let (us, them) = (&self.nodes[node].name, &self.nodes[other].name);
        let (items, bytes) = (message.items(), message.encode().len());
        let items = format!("{items} item{}", if items == 1 { "" } else { "s" });
        let detail = show::detail(message, proven);
        let kind = message.kind().name();
        let line =
            format!("{us:<5} {arrow} {them:<5}  {kind:<24} {items:>10} {bytes:>7} B  {detail}");
        writeln!(self.told, "{}", line.trim_end()).unwrap();
    }

    fn tell_event(&mut self, node: usize, event: &str) {
        if node == 0 {
            writeln!(self.told, "{} {event}", self.nodes[node].name).unwrap();
        }
    }

    fn compare(&mut self, a: &str, b: &str) {
        let keys = |name| self.nodes[self.at(name)].store.rows.keys();
        let told = if keys(a).eq(keys(b)) {
            format!("{a} and {b} hold the same {}", keys(a).len())
        } else {
            format!("{a} holds {}, {b} holds {}", keys(a).len(), keys(b).len())
        };
        writeln!(self.told, "{told}").unwrap();
    }
}

fn message_of(wire: &Wire) -> Option<Message> {
    match wire {
        Wire::Message(message) => Some(message.clone()),
        Wire::End => None,
    }
}

fn name_of(id: &SpaceId) -> &'static str {
    SPACES.iter().find(|(_, known)| known == id).map_or("a space", |(name, _)| name)
}

/// `1, 5, 9..12, signed:3`: the end of a range is not in it.
fn numbers(words: &[&str]) -> Vec<Aspect> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
        None => text.parse().unwrap(),
    };
    let signed = |space, n: &str| {
        let (key, entry) = (AuthorKey::from_bytes(&[1; 32]), numbered(number(n)).entry());
        Aspect::signed(&key, &space, entry, 1, Time::ZERO, b"words").unwrap()
    };
    let mut aspects = Vec::new();
    for word in words.iter().flat_map(|word| word.split(',')).filter(|word| !word.is_empty()) {
        match (word.split_once(".."), word.split_once(':')) {
            (Some((from, to)), _) => aspects.extend((number(from)..number(to)).map(numbered)),
            (_, Some(("signed", n))) => aspects.push(signed(SPACE, n)),
            (_, Some(("forged", n))) => aspects.push(signed(SpaceId([0xee; 32]), n)),
            _ => aspects.push(numbered(number(word))),
        }
    }
    aspects
}
