//! Tickets: one string to copy and paste, with all that is needed to join a space.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use arcwise_proto::{NodeId, SpaceId, swarm::Copies};
use data_encoding::BASE32_NOPAD;

use crate::RelayUrl;

const PREFIX: &str = "arcwise1";
const CHECK: &str = "arcwise 1 ticket";
const MAX_ADDRESSES: usize = 32;
const MAX_NAME: usize = 255;

/// Further nodes in a ticket, and addresses of each. Guesses: one of four can be reached for long, and the
/// ticket still fits a message.
pub(crate) const MAX_OTHERS: usize = 3;
pub(crate) const MAX_OTHER_ADDRESSES: usize = 4;

/// Whoever has it can join the space, so for a private space it is a secret.
///
/// Its text is `arcwise1` and base32 (RFC 4648, lower case, no padding) of: space id 32, node id 32,
/// length of the name 1, name, number of addresses 1, addresses, and 4 bytes of BLAKE3
/// `derive_key("arcwise 1 ticket", everything before)`. An address is 4 and an IPv4 address and a
/// port, 6 and an IPv6 address and a port (big-endian), or 1, a length (2 bytes, big-endian) and the
/// URL of a relay. Before the check bytes stand 1 and their longest age in microseconds (8 bytes,
/// big-endian), where the space does not keep aspects for ever; 2, the least number of copies, and the
/// normal one; and for each further node 3, its id, the number of its addresses, and these.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The space.
    pub space: SpaceId,
    /// What its maker calls it; at most 255 bytes.
    pub name: String,
    /// A node that is in it.
    pub node: NodeId,
    /// Where that node listens.
    pub addresses: Vec<SocketAddr>,
    /// Relays it can be reached through.
    pub relays: Vec<RelayUrl>,
    /// How long the space keeps what is published; `None` for ever.
    pub max_age: Option<Duration>,
    /// How many copies there are to be.
    pub copies: Copies,
    /// Further nodes that were in it when the ticket was made, so that it stays good where the first one is
    /// away; at most three count, with four addresses each.
    pub others: Vec<Contact>,
}

/// A node, and where it may be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Which one.
    pub node: NodeId,
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    /// Relays it can be reached through.
    pub relays: Vec<RelayUrl>,
}

impl Ticket {
    /// All its nodes; first the one that made it.
    pub fn contacts(&self) -> impl Iterator<Item = Contact> + '_ {
        let (node, addresses) = (self.node, self.addresses.clone());
        let first = Contact { node, addresses, relays: self.relays.clone() };
        std::iter::once(first).chain(self.others.iter().cloned())
    }
}

/// Why text is not a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It does not begin as tickets do.
    #[error("this is not a ticket: tickets begin with `{PREFIX}`")]
    Prefix,
    /// A character that no ticket has, at this place, counted from 1.
    #[error("there is a typo in the ticket: character {0} cannot stand in one; copy it again")]
    Character(usize),
    /// The check bytes do not fit: something is missing, added or changed.
    #[error("there is a typo in the ticket, or a part of it is missing; copy it again")]
    Checksum,
    /// Whole, but with contents that this version does not know.
    #[error("the ticket was made by a version of arcwise that this one does not understand")]
    Contents,
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::with_capacity(128);
        out.extend(self.space.as_bytes());
        out.extend(self.node.as_bytes());
        let mut end = self.name.len().min(MAX_NAME);
        while !self.name.is_char_boundary(end) {
            end -= 1;
        }
        out.push(end as u8);
        out.extend(&self.name.as_bytes()[..end]);
        write_addresses(&mut out, &self.addresses, &self.relays, MAX_ADDRESSES);
        if let Some(age) = self.max_age {
            out.push(1);
            out.extend(u64::try_from(age.as_micros()).unwrap_or(u64::MAX).to_be_bytes());
        }
        out.extend([2, self.copies.min() as u8, self.copies.target() as u8]);
        for other in self.others.iter().take(MAX_OTHERS) {
            out.push(3);
            out.extend(other.node.as_bytes());
            write_addresses(&mut out, &other.addresses, &other.relays, MAX_OTHER_ADDRESSES);
        }
        out.extend(check(&out));
        write!(f, "{PREFIX}{}", BASE32_NOPAD.encode(&out).to_ascii_lowercase())
    }
}

/// The first `most` of them, and how many they are.
fn write_addresses(out: &mut Vec<u8>, addresses: &[SocketAddr], relays: &[RelayUrl], most: usize) {
    let addresses = &addresses[..addresses.len().min(most)];
    let relays = &relays[..relays.len().min(most - addresses.len())];
    out.push((addresses.len() + relays.len()) as u8);
    for address in addresses {
        match address.ip() {
            IpAddr::V4(ip) => {
                out.push(4);
                out.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                out.push(6);
                out.extend(ip.octets());
            }
        }
        out.extend(address.port().to_be_bytes());
    }
    for relay in relays {
        let url = relay.as_str().as_bytes();
        out.push(1);
        out.extend((url.len() as u16).to_be_bytes());
        out.extend(url);
    }
}

impl fmt::Debug for Ticket {
    /// Without the space id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("space", &self.space)
            .field("name", &self.name)
            .field("node", &self.node)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let text = text.trim().to_ascii_lowercase();
        let body = text.strip_prefix(PREFIX).ok_or(TicketError::Prefix)?;
        let bad = body.chars().position(|c| !matches!(c, 'a'..='z' | '2'..='7'));
        if let Some(at) = bad {
            return Err(TicketError::Character(PREFIX.len() + at + 1));
        }
        let bytes = BASE32_NOPAD
            .decode(body.to_ascii_uppercase().as_bytes())
            .map_err(|_| TicketError::Checksum)?;
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or(TicketError::Checksum)?;
        if check(body) != *sum {
            return Err(TicketError::Checksum);
        }
        read(body).ok_or(TicketError::Contents)
    }
}

fn check(body: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = blake3::derive_key(CHECK, body);
    [a, b, c, d]
}

fn take<'a>(body: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, rest) = body.split_at_checked(n)?;
    *body = rest;
    Some(head)
}
fn array<const N: usize>(body: &mut &[u8]) -> Option<[u8; N]> {
    take(body, N)?.try_into().ok()
}

fn addresses_of(body: &mut &[u8]) -> Option<(Vec<SocketAddr>, Vec<RelayUrl>)> {
    let [count] = array(body)?;
    let (mut addresses, mut relays) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let address = match array(body)? {
            [4] => IpAddr::from(array::<4>(body)?),
            [6] => IpAddr::from(array::<16>(body)?),
            [1] => {
                let len = u16::from_be_bytes(array(body)?);
                relays.push(std::str::from_utf8(take(body, len.into())?).ok()?.parse().ok()?);
                continue;
            }
            _ => return None,
        };
        addresses.push(SocketAddr::new(address, u16::from_be_bytes(array(body)?)));
    }
    Some((addresses, relays))
}

/// `None` where the contents are not what [`Ticket`] describes, to the last byte.
fn read(mut body: &[u8]) -> Option<Ticket> {
    let body = &mut body;
    let space = SpaceId(array(body)?);
    let node = NodeId(array(body)?);
    let [len] = array(body)?;
    let name = std::str::from_utf8(take(body, len.into())?).ok()?;
    let name = name.chars().filter(|c| !c.is_control()).collect();
    let (addresses, relays) = addresses_of(body)?;
    let (mut max_age, mut copies, mut others) = (None, Copies::default(), Vec::new());
    while !body.is_empty() {
        match array(body)? {
            [1] => max_age = Some(Duration::from_micros(u64::from_be_bytes(array(body)?))),
            [2] => {
                let [min, target] = array(body)?;
                copies = Copies::new(min.into(), target.into()).ok()?;
            }
            [3] if others.len() < MAX_OTHERS => {
                let node = NodeId(array(body)?);
                let (addresses, relays) = addresses_of(body)?;
                others.push(Contact { node, addresses, relays });
            }
            _ => return None,
        }
    }
    Some(Ticket { space, name, node, addresses, relays, max_age, copies, others })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            space: SpaceId([0x11; 32]),
            name: "Grüße".into(),
            node: NodeId([0x22; 32]),
            addresses: vec!["127.0.0.1:4433".parse().unwrap(), "[::1]:9".parse().unwrap()],
            relays: vec!["https://relay.example./".parse().unwrap()],
            max_age: None,
            copies: Copies::default(),
            others: vec![],
        }
    }

    #[test]
    fn tickets_survive_the_clipboard() {
        let text = ticket().to_string();
        assert_eq!(text.parse(), Ok(ticket()));
        assert_eq!(format!("  {}\n", text.to_uppercase()).parse(), Ok(ticket()));
        assert!(!format!("{:?}", ticket()).contains("1111"));
        let aging = Ticket { max_age: Some(Duration::from_secs(86_400)), ..ticket() };
        assert_eq!(aging.to_string().parse(), Ok(aging));
    }

    #[test]
    fn further_nodes_go_along_as_far_as_there_is_room() {
        let other = |n: u8| Contact {
            node: NodeId([n; 32]),
            addresses: vec![SocketAddr::from(([10, 0, 0, n], 1)); usize::from(n)],
            relays: vec!["https://relay.example./".parse().unwrap()],
        };
        let crowded = Ticket { others: (1..=5).map(other).collect(), ..ticket() };
        let read: Ticket = crowded.to_string().parse().unwrap();
        assert_eq!(read.others, crowded.others[..3]);
        assert_eq!(read.contacts().map(|it| it.node).collect::<Vec<_>>().len(), 4);
        let fewer = Ticket { others: vec![other(9)], ..ticket() };
        let read: Ticket = fewer.to_string().parse().unwrap();
        assert_eq!((read.others[0].addresses.len(), read.others[0].relays.len()), (4, 0));
    }

    /// As they were made before there were further nodes, and before there were numbers of copies.
    #[test]
    fn older_tickets_are_read() {
        let mut body = [[0x11; 32], [0x22; 32]].concat();
        body.extend([3, b'o', b'l', b'd', 1, 4, 127, 0, 0, 1, 0x11, 0x51]);
        let text = |mut body: Vec<u8>| {
            body.extend(check(&body));
            format!("{PREFIX}{}", BASE32_NOPAD.encode(&body).to_ascii_lowercase())
        };
        let read: Ticket = text(body.clone()).parse().unwrap();
        assert_eq!((read.copies, read.others.len()), (Copies::default(), 0));
        body.extend([2, 8, 20]);
        assert_eq!(read.to_string(), text(body), "and nothing is added to those with one node");
    }

    #[test]
    fn every_typo_is_noticed() {
        let text = ticket().to_string();
        for at in 0..text.len() {
            for wrong in ['a', '7', '0', 'é'] {
                let typo: String = text
                    .chars()
                    .enumerate()
                    .map(|(i, c)| if i == at { wrong } else { c })
                    .collect();
                assert!(typo == text || typo.parse::<Ticket>().is_err(), "{typo}");
            }
            let mut shorter = text.clone();
            shorter.remove(at);
            assert!(shorter.parse::<Ticket>().is_err());
            assert!(text[..at].parse::<Ticket>().is_err());
        }
        assert_eq!("hello".parse::<Ticket>(), Err(TicketError::Prefix));
        assert_eq!("arcwise1ab0".parse::<Ticket>(), Err(TicketError::Character(11)));
        assert_eq!("arcwise1".parse::<Ticket>(), Err(TicketError::Checksum));
    }

    #[test]
    fn a_ticket_of_the_future_is_told_from_a_typo() {
        let mut body = vec![1; 64];
        body.extend([0, 1, 99]);
        body.extend(check(&body));
        let text = format!("{PREFIX}{}", BASE32_NOPAD.encode(&body));
        assert_eq!(text.parse::<Ticket>(), Err(TicketError::Contents));
    }
}
