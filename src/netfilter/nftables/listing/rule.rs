//! One rule of a listing.

use super::Context;
use super::comparison::{FIELDS, header, number, values};
use super::tokens::Token::{self, Comma, Group, Text, Word};
use crate::netfilter::backend::TableKind;
use crate::netfilter::model::{
    AddressSet, ChainName, Family, Field, FieldTest, Match, NatTo, ObservedRule, Owner, PortRange,
    RejectWith, Rule, RuleId, Side, Target, Test, address_of,
};
use crate::netfilter::nftables::foreign::{merge_tproxy, simplified};
use crate::netfilter::nftables::native::reply;
use std::net::{IpAddr, SocketAddr};

/// Reads a rule as evaluated for a family; `None` if it is for the other family only.
pub(super) fn read(rule: &[Token], line: &str, context: &Context) -> Option<ObservedRule> {
    let mut reading = Reading {
        context,
        rest: rule,
        matches: Vec::new(),
        targets: Vec::new(),
    };
    let mut known = match context.place {
        // nft omits and changes parts of the rules of iptables.
        Some((TableKind::Xt, _)) => Err(Stop::Unknown),
        _ => Ok(()),
    };
    while known.is_ok() && !reading.rest.is_empty() {
        known = reading.step();
    }
    let target = match known {
        Err(Stop::OtherFamily) => return None,
        Err(Stop::Unknown) => None,
        Ok(()) => Some(reading.target()),
    };
    let mut jumps = rule.windows(2).filter_map(|pair| match pair {
        [Word("jump" | "goto"), Word(chain)] => ChainName::new(chain).ok(),
        _ => None,
    });
    let comment = comment(rule).map(str::to_owned);
    let idle = Target::Several(Vec::new());
    if let Some(target) = target.as_ref().filter(|target| **target != idle) {
        let rule = Rule::without_comment(reading.matches, target.clone());
        let id = comment.as_deref().and_then(RuleId::from_comment);
        return Some(ObservedRule::known(
            Rule { id, ..rule },
            comment,
            Vec::new(),
        ));
    }
    Some(ObservedRule {
        rule: None,
        matches: reading.matches,
        target,
        comment,
        jump: jumps.next(),
        text: line.to_owned(),
        handles: Vec::new(),
        counters: None,
    })
}

fn comment<'t>(rule: &[Token<'t>]) -> Option<&'t str> {
    match rule {
        [.., Word("comment"), Text(comment)] => Some(comment),
        _ => None,
    }
}

/// Why a rule is read no further.
enum Stop {
    OtherFamily,
    Unknown,
}

struct Reading<'a> {
    context: &'a Context<'a>,
    rest: &'a [Token<'a>],
    matches: Vec<Match>,
    /// Its actions in order.
    targets: Vec<Target>,
}

impl<'a> Reading<'a> {
    fn step(&mut self) -> Result<(), Stop> {
        if self.take("counter") {
            while self.take_any(&["packets", "bytes"]) {
                self.text()?;
            }
        } else if self.take("log") {
            while self.take_any(&["prefix", "level", "flags", "group", "snaplen"]) {
                self.text()?;
            }
        } else if self.take("comment") {
            self.text()?;
        } else if let Some(target) = self.action()? {
            self.targets.push(target);
        } else {
            // Earlier actions are taken regardless of this condition.
            self.targets.is_empty().then_some(()).ok_or(Stop::Unknown)?;
            self.condition()?;
        }
        Ok(())
    }

    /// What all actions do together.
    fn target(&mut self) -> Target {
        merge_tproxy(&mut self.targets);
        match self.targets.len() {
            1 => self.targets.remove(0),
            _ => Target::Several(std::mem::take(&mut self.targets)),
        }
    }

    fn action(&mut self) -> Result<Option<Target>, Stop> {
        let fixed = [
            ("accept", Target::Accept),
            ("drop", Target::Drop),
            ("return", Target::Return),
            ("notrack", Target::NoTrack),
            ("masquerade", Target::Masquerade),
        ];
        if let Some((_, target)) = fixed.into_iter().find(|(word, _)| self.take(word)) {
            return Ok(Some(target));
        }
        Ok(Some(match () {
            () if self.take("jump") => Target::Jump(ChainName::of_nf_tables(self.text()?)),
            () if self.take("goto") => Target::Goto(ChainName::of_nf_tables(self.text()?)),
            () if self.take("reject") => self.reject()?,
            () if self.take("meta mark set") => self.mark(false)?,
            () if self.take("ct mark set") => self.mark(true)?,
            () if self.take("ct zone set") => Target::CtZone(self.number()?),
            () if self.take("redirect to") => Target::Redirect {
                to_port: self.end()?.1.ok_or(Stop::Unknown)?,
            },
            () if self.take("tproxy to") => {
                let (address, port) = self.end()?;
                Target::Tproxy {
                    on_port: port.ok_or(Stop::Unknown)?,
                    on_ip: address.unwrap_or(self.context.family.unspecified()),
                    value: 0,
                    mask: 0,
                }
            }
            () if self.take("dnat to") => Target::Dnat(self.nat_to()?),
            () if self.take("snat to") => Target::Snat(self.nat_to()?),
            () => return Ok(None),
        }))
    }

    fn reject(&mut self) -> Result<Target, Stop> {
        let mut name = match self.context.family {
            Family::V4 => "icmp port-unreachable".to_owned(),
            Family::V6 => "icmpv6 port-unreachable".to_owned(),
        };
        if self.take("with") {
            let protocol = self.text()?;
            self.take("type");
            name = format!("{protocol} {}", self.text()?);
        }
        let with = RejectWith::all().find(|with| reply(*with) == name);
        with.map(Target::Reject).ok_or(Stop::Unknown)
    }

    /// What follows `mark set`, of the packet or of its connection.
    fn mark(&mut self, of_connection: bool) -> Result<Target, Stop> {
        let all = u32::MAX;
        let (from_packet, from_connection) = (self.take("meta mark"), self.take("ct mark"));
        // The mark becomes `(from & keep) ^ value`.
        let (keep, value) = match from_packet || from_connection {
            true => self.bits()?,
            false => (0, self.number()?),
        };
        Ok(match (of_connection, from_packet, from_connection) {
            (false, _, false) => Target::Mark { value, mask: !keep },
            (true, false, _) => Target::SetConnmark { value, mask: !keep },
            (true, true, _) if value == 0 => Target::SaveMark {
                nfmask: keep,
                ctmask: all,
            },
            (false, _, true) if value == 0 => Target::RestoreMark {
                nfmask: all,
                ctmask: keep,
            },
            _ => return Err(Stop::Unknown),
        })
    }

    /// `& NUMBER ^ NUMBER | NUMBER`, each of which may be missing: the bits that are kept, and those
    /// that are then changed.
    fn bits(&mut self) -> Result<(u32, u32), Stop> {
        let mut operand = |sign, default| match self.take(sign) {
            true => self.number(),
            false => Ok(default),
        };
        let (keep, change, set) = (operand("&", u32::MAX)?, operand("^", 0)?, operand("|", 0)?);
        Ok((keep & !set, (change & !set) | set))
    }

    /// An address, a port or both: `:15001`, `10.0.0.1:80`, `[fd00::1]:80`.
    fn end(&mut self) -> Result<(Option<IpAddr>, Option<u16>), Stop> {
        let text = self.text()?;
        let port = text.strip_prefix(':').and_then(|port| port.parse().ok());
        let address = text.parse::<IpAddr>().ok();
        let both = text.parse::<SocketAddr>().ok();
        match (port, address, both) {
            (None, None, None) => Err(Stop::Unknown),
            (port, address, both) => Ok((
                address.or(both.map(|both| both.ip())),
                port.or(both.map(|both| both.port())),
            )),
        }
    }

    fn nat_to(&mut self) -> Result<NatTo, Stop> {
        let (address, port) = self.end()?;
        Ok(NatTo {
            addresses: address.map(|address| (address, address)),
            ports: port.map(PortRange::from),
        })
    }

    fn condition(&mut self) -> Result<(), Stop> {
        if self.take("socket wildcard 0") {
            let transparent = self.take("socket transparent 1");
            self.matches.push(Match::new(Test::Socket { transparent }));
            return Ok(());
        }
        if self.take("meta nfproto ipv4") {
            return self.is_for(Family::V4);
        }
        if self.take("meta nfproto ipv6") {
            return self.is_for(Family::V6);
        }
        let mut fields = vec![self.field()?];
        while self.take(".") {
            fields.push(self.field()?);
        }
        let mut mask = u128::MAX;
        if self.take("&") {
            mask = self.number::<u32>()?.into();
        }
        let (equal, not) = (self.take("=="), self.take("!="));
        let (elements, length, set) = match self.rest {
            [Group(elements), ..] => (elements.as_slice(), 1, None),
            [Word(name), ..] if let Some(name) = name.strip_prefix('@') => {
                let elements = self.context.sets.get(name).ok_or(Stop::Unknown)?;
                (*elements, 1, Some(name.to_owned()))
            }
            rest => {
                let is_plain = mask == u128::MAX && !equal && !not;
                if let ([field @ (Field::CtState | Field::CtStatus)], true) = (&*fields, is_plain) {
                    return self.any_bit(field.clone());
                }
                // Values and the dots between them.
                let length = rest.len().min(2 * fields.len() - 1);
                (&rest[..length], length, None)
            }
        };
        self.rest = &self.rest[length..];
        let values = values(&fields, elements).ok_or(Stop::Unknown)?.into();
        let test = FieldTest {
            fields,
            mask,
            values,
            set,
        };
        self.test(test, not);
        Ok(())
    }

    /// `ct state new,related`: one of these bits is set; none of them after `!`.
    fn any_bit(&mut self, field: Field) -> Result<(), Stop> {
        let none = self.take("!");
        let mut mask = field.named(self.text()?).ok_or(Stop::Unknown)?;
        while let [Comma, Word(name), rest @ ..] = self.rest {
            mask |= field.named(name).ok_or(Stop::Unknown)?;
            self.rest = rest;
        }
        let zero = FieldTest::new(field, [(0, 0)]);
        self.test(FieldTest { mask, ..zero }, !none);
        Ok(())
    }

    /// Adds a comparison. In own tables it stands for the match that is written so.
    fn test(&mut self, test: FieldTest, not: bool) {
        let id = test.single().and_then(|id| u32::try_from(id).ok());
        let is_own = self.context.place.is_some();
        let test = match (test.fields.as_slice(), id) {
            ([Field::Uid], Some(id)) if is_own => Test::Owner(Owner::Uid(id)),
            ([Field::Gid], Some(id)) if is_own => Test::Owner(Owner::Gid(id)),
            ([Field::Address(family, Side::Destination)], _) if is_own && test.set.is_some() => {
                let address = |number| address_of(*family, number);
                let spans = test.values.iter().flatten();
                let set = AddressSet::from_ranges(spans.map(|(a, z)| (address(*a), address(*z))));
                set.map_or_else(|| Test::Fields(test.clone().into()), Test::DestinationSet)
            }
            _ => Test::Fields(test.into()),
        };
        self.matches.push(simplified(Match { not, test }));
    }

    /// A field; a header also asks for its protocol or family.
    fn field(&mut self) -> Result<Field, Stop> {
        let name = match self.rest {
            [Word(name), ..] => *name,
            _ => return Err(Stop::Unknown),
        };
        match name {
            "ip" | "icmp" => self.is_for(Family::V4)?,
            "ip6" | "icmpv6" => self.is_for(Family::V6)?,
            _ => {}
        }
        let protocol = header(name).map(Match::protocol);
        if name == "th" || protocol.is_some() {
            self.take(name);
        }
        let new = protocol.filter(|protocol| !self.matches.contains(protocol));
        self.matches.extend(new);
        let field = FIELDS.into_iter().find(|(name, _)| self.take(name));
        field.map(|(_, field)| field).ok_or(Stop::Unknown)
    }

    fn is_for(&self, family: Family) -> Result<(), Stop> {
        match family == self.context.family {
            true => Ok(()),
            false => Err(Stop::OtherFamily),
        }
    }

    fn text(&mut self) -> Result<&'a str, Stop> {
        let [Word(text) | Text(text), rest @ ..] = self.rest else {
            return Err(Stop::Unknown);
        };
        self.rest = rest;
        Ok(text)
    }

    fn number<T: TryFrom<u128>>(&mut self) -> Result<T, Stop> {
        let number = number(self.text()?).and_then(|number| T::try_from(number).ok());
        number.ok_or(Stop::Unknown)
    }

    /// Skips these words if they follow.
    fn take(&mut self, words: &str) -> bool {
        let mut rest = self.rest.iter();
        let follow = words
            .split(' ')
            .all(|word| rest.next() == Some(&Word(word)));
        if follow {
            self.rest = rest.as_slice();
        }
        follow
    }

    fn take_any(&mut self, all: &[&str]) -> bool {
        all.iter().any(|words| self.take(words))
    }
}
