//! Explains why a rule does not match a packet.

use super::matches::{Match, Owner, Test};
use super::packet::{FoundSocket, Packet, Side};
use super::ports::{PortRange, join};
use std::fmt;

impl Match {
    /// The reason why the packet does not match, without a full stop; `None` if it matches.
    pub fn mismatch<'a>(&'a self, packet: &'a Packet) -> Option<Mismatch<'a>> {
        (self.evaluate(packet) == Some(false)).then_some(Mismatch { of: self, packet })
    }
}

/// A match and a packet that does not pass it; prints the reason.
#[derive(Clone, Copy, Debug)]
pub struct Mismatch<'a> {
    of: &'a Match,
    packet: &'a Packet,
}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (packet, not) = (self.packet, self.of.not);
        let is_not = if not { "is" } else { "is not" };
        match &self.of.test {
            Test::Source(net) => write!(f, "the source {} {is_not} in {net}", packet.source.ip()),
            Test::Destination(net) => {
                write!(
                    f,
                    "the destination {} {is_not} in {net}",
                    packet.destination.ip()
                )
            }
            Test::DestinationSet(set) => {
                let address = packet.destination.ip();
                match set.as_slice() {
                    nets @ ([] | [_] | [_, _] | [_, _, _]) => {
                        write!(f, "the destination {address} {is_not} in ")?;
                        join(f, nets)
                    }
                    nets => {
                        let count = nets.len();
                        write!(
                            f,
                            "the destination {address} {is_not} in the list of {count}"
                        )
                    }
                }
            }
            Test::InInterface(name) => match &packet.in_interface {
                Some(actual) if not => write!(f, "it came in through {actual}"),
                Some(actual) => write!(f, "it came in through {actual}, not {name}"),
                None => write!(
                    f,
                    "it did not come in, through {name} or any other interface"
                ),
            },
            Test::OutInterface(name) => match &packet.out_interface {
                Some(actual) if not => write!(f, "it leaves through {actual}"),
                Some(actual) => write!(f, "it leaves through {actual}, not {name}"),
                None => write!(
                    f,
                    "it does not leave, through {name} or any other interface"
                ),
            },
            Test::Protocol(_) if not => write!(f, "it is {}", packet.protocol),
            Test::Protocol(wanted) => write!(f, "it is {}, not {wanted}", packet.protocol),
            Test::Port { side, ports } => self.port(f, *side, &[*ports]),
            Test::Multiport { side, ports } => self.port(f, *side, ports.as_slice()),
            Test::Owner(owner) => self.owner(f, *owner),
            Test::ConnState(_) if not => write!(f, "its state is {}", packet.state().as_str()),
            Test::ConnState(states) => {
                write!(f, "its state is {}, not ", packet.state().as_str())?;
                let names: Vec<&str> = states.iter().map(|s| s.as_str()).collect();
                join(f, &names)
            }
            Test::Mark { .. } if not => write!(f, "its mark is {:#x}", packet.mark),
            Test::Mark { value, .. } => {
                write!(f, "its mark is {:#x}, not {value:#x}", packet.mark)
            }
            Test::Connmark { value, .. } => match packet.connection() {
                None => f.write_str("it has no connection with a mark"),
                Some(c) if not => write!(f, "the connection's mark is {:#x}", c.mark),
                Some(c) => write!(f, "the connection's mark is {:#x}, not {value:#x}", c.mark),
            },
            Test::Socket { .. } if not => f.write_str("there is an open socket for it"),
            Test::Socket { transparent: true } if packet.socket == FoundSocket::Plain => {
                f.write_str("the open socket for it is not transparent")
            }
            Test::Socket { .. } => {
                f.write_str("there is no open socket for it alone (one for any address is none)")
            }
            Test::Fields(test) => {
                test.write_actual(f, packet)?;
                if not {
                    return Ok(());
                }
                f.write_str(if test.mask == u128::MAX {
                    ", not "
                } else {
                    ", which does not fit "
                })?;
                test.write_values(f)
            }
            Test::Undecoded(text) => f.write_str(text),
        }
    }
}

impl Mismatch<'_> {
    fn port(&self, f: &mut fmt::Formatter<'_>, side: Side, wanted: &[PortRange]) -> fmt::Result {
        let side_name = match side {
            Side::Source => "source",
            Side::Destination => "destination",
        };
        write!(f, "the {side_name} port is {}", self.packet.port(side))?;
        if !self.of.not {
            let none_of = if wanted.len() > 1 { "none of " } else { "not " };
            write!(f, ", {none_of}")?;
            join(f, wanted)?;
        }
        Ok(())
    }

    fn owner(&self, f: &mut fmt::Formatter<'_>, owner: Owner) -> fmt::Result {
        let Some(sender) = &self.packet.owner else {
            return f.write_str("no process here sent it");
        };
        let (kind, is, wanted) = match owner {
            Owner::Uid(uid) => ("uid", sender.uid, uid),
            Owner::Gid(gid) => ("gid", sender.gid, gid),
        };
        write!(f, "its sender's {kind} is {is}")?;
        if !self.of.not {
            write!(f, ", not {wanted}")?;
        }
        match owner {
            Owner::Gid(gid) if !self.of.not && sender.supplementary_groups.contains(&gid) => {
                f.write_str(" (a supplementary group does not count)")
            }
            _ => Ok(()),
        }
    }
}
