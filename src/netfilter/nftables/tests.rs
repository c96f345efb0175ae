//! Simulated kernel faults.

use super::Netlink;
use super::batch::message_type;
use super::nf_tables::*;
use crate::netfilter::backend::{Backend, BackendError, Feature, TableKind};
use crate::netfilter::model::{
    BaseChange, ChainName, ChainRewrite, Change, Family, Match, Owner, Rule, RuleId, TableChange,
    TableName, Target,
};
use crate::netfilter::netlink::{Transport, Writer};
use nix::errno::Errno;
use nix::libc;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::io;

const NLMSG_ERROR: u16 = libc::NLMSG_ERROR as u16;
const NLMSG_DONE: u16 = libc::NLMSG_DONE as u16;
const MULTI: u16 = libc::NLM_F_MULTI as u16;
const CAPPED_WITH_WORDS: u16 = (libc::NLM_F_CAPPED | libc::NLM_F_ACK_TLVS) as u16;
const NEW_GENERATION: u16 = message_type(NFT_MSG_NEWGEN);
const GET_CHAIN: u16 = message_type(NFT_MSG_GETCHAIN);
const GET_TABLE: u16 = message_type(NFT_MSG_GETTABLE);
const GET_GENERATION: u16 = message_type(NFT_MSG_GETGEN);

type Answers = Vec<io::Result<Vec<u8>>>;

/// A simulated kernel whose replies a function returns.
struct Played<F> {
    kernel: F,
    answers: VecDeque<io::Result<Vec<u8>>>,
    /// The largest datagram it takes.
    room: usize,
}

impl<F: FnMut(&Sent) -> Answers> Transport for Played<F> {
    fn send(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let sent = Sent(parts.concat());
        assert!(sent.0.len() <= self.room);
        self.answers.extend((self.kernel)(&sent));
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let answer = self.answers.pop_front();
        let answer = answer.unwrap_or(Err(io::ErrorKind::WouldBlock.into()))?;
        buffer[..answer.len()].copy_from_slice(&answer);
        Ok(answer.len())
    }

    fn capacity(&mut self, _: usize) -> io::Result<usize> {
        Ok(self.room)
    }
}

/// A datagram on its way to the kernel.
struct Sent(Vec<u8>);

impl Sent {
    /// Type, sequence number and bytes of each message.
    fn messages(&self) -> Vec<(u16, u32, &[u8])> {
        let mut messages = Vec::new();
        let mut rest = self.0.as_slice();
        while let Some(header) = rest.first_chunk::<16>() {
            let word = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().unwrap());
            let (message, behind) = rest.split_at(word(0) as usize);
            messages.push((word(4) as u16, word(8), message));
            rest = behind;
        }
        messages
    }

    fn kind(&self) -> u16 {
        self.messages()[0].0
    }

    fn sequence(&self) -> u32 {
        self.messages()[0].1
    }

    /// The message that holds some text: its sequence number, and where the text stands.
    fn find(&self, text: &str) -> (u32, usize) {
        let at = |message: &[u8]| {
            let mut windows = message.windows(text.len());
            windows.position(|w| w == text.as_bytes())
        };
        let mut messages = self.messages().into_iter();
        messages
            .find_map(|(_, sequence, message)| Some((sequence, at(message)?)))
            .expect("a message with this text")
    }
}

fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut w = Writer::default();
    w.message(kind, flags, sequence, |w| w.raw(payload));
    w.as_slice().to_vec()
}

/// An acknowledgement, or a refusal with words and an offset.
fn answer(sequence: u32, errno: i32, words: &str, offset: usize) -> Vec<u8> {
    let mut w = Writer::default();
    w.message(NLMSG_ERROR, CAPPED_WITH_WORDS, sequence, |w| {
        w.raw(&(-errno).to_ne_bytes());
        w.raw(&[0; 16]);
        w.string(1, words);
        w.bytes(2, &(offset as u32).to_ne_bytes());
    });
    w.as_slice().to_vec()
}

fn generation(sequence: u32, generation: u32) -> Vec<u8> {
    let mut w = Writer::default();
    w.message(NEW_GENERATION, 0, sequence, |w| {
        w.raw(&[0; 4]);
        w.u32(NFTA_GEN_ID, generation);
    });
    w.as_slice().to_vec()
}

/// The table `nat` of IPv4.
fn table(sequence: u32) -> Vec<u8> {
    let mut w = Writer::default();
    w.message(message_type(NFT_MSG_NEWTABLE), MULTI, sequence, |w| {
        w.raw(&[libc::NFPROTO_IPV4 as u8, 0, 0, 0]);
        w.string(NFTA_TABLE_NAME, "nat");
        w.u32(NFTA_TABLE_USE, 0);
    });
    w.as_slice().to_vec()
}

fn done(sequence: u32) -> Vec<u8> {
    message(NLMSG_DONE, MULTI, sequence, &[0; 4])
}

/// An empty nf_tables at generation 7, that answers a commit with what a function says.
fn empty_until(mut commit: impl FnMut(&Sent) -> Answers) -> impl FnMut(&Sent) -> Answers {
    move |sent| match sent.kind() {
        NFNL_MSG_BATCH_BEGIN => commit(sent),
        GET_GENERATION => vec![Ok(generation(sent.sequence(), 7))],
        _ => vec![Ok(done(sent.sequence()))],
    }
}

fn played<F: FnMut(&Sent) -> Answers>(kernel: F, room: usize) -> Netlink<Played<F>> {
    let transport = Played {
        kernel,
        answers: VecDeque::new(),
        room,
    };
    Netlink::new(transport, TableKind::Xt)
}

/// A managed chain with a few rules, and a jump to it.
fn change(rules: usize) -> Change {
    let managed = ChainName::fixed("ISTIO_OUTPUT");
    let owner = Match::owner(Owner::Uid(1337));
    let id = RuleId::from("bypass-envoy").labelled("istio");
    let rule = Rule::new(id, [owner], Target::Return);
    let jump = Rule::new("install", [], Target::Jump(managed.clone()));
    Change {
        remove: Vec::new(),
        tables: vec![TableChange {
            family: Family::V4,
            name: TableName::Nat,
            wake: false,
            accept: vec![],
            rewrite: vec![ChainRewrite {
                name: managed,
                exists: false,
                rules: vec![rule; rules],
            }],
            remove: vec![],
            base: vec![BaseChange {
                chain: ChainName::OUTPUT,
                delete: vec![],
                head: vec![],
                tail: vec![jump],
            }],
        }],
    }
}

/// The result of a commit with these replies.
fn commit(answers: impl FnMut(&Sent) -> Answers) -> Result<(), BackendError> {
    let mut backend = played(empty_until(answers), usize::MAX);
    backend.read().unwrap();
    backend.commit(&change(2))
}

fn read(kernel: impl FnMut(&Sent) -> Answers) -> Result<(), BackendError> {
    played(kernel, usize::MAX).read().map(drop)
}

fn lost() -> io::Error {
    Errno::ENOBUFS.into()
}

#[test]
fn an_acknowledgement_is_success() {
    commit(|_| vec![Ok(answer(9, 0, "", 0))]).unwrap();
}

#[test]
fn a_newer_generation_means_to_read_again() {
    let error = commit(|_| vec![Ok(answer(0, Errno::ERESTART as i32, "", 0))]).unwrap_err();
    assert!(
        matches!(error, BackendError::Interrupted { .. }),
        "{error:?}"
    );
}

/// A commit whose answer is lost, at generation 7, and the generation afterwards.
fn commit_unanswered(answers: fn() -> Answers, later: Option<u32>) -> BackendError {
    let mut now = Some(7);
    let kernel = move |sent: &Sent| match sent.kind() {
        NFNL_MSG_BATCH_BEGIN => {
            now = later;
            answers()
        }
        GET_GENERATION => now
            .map(|n| Ok(generation(sent.sequence(), n)))
            .into_iter()
            .collect(),
        _ => vec![Ok(done(sent.sequence()))],
    };
    let mut backend = played(kernel, usize::MAX);
    backend.read().unwrap();
    backend.commit(&change(2)).unwrap_err()
}

#[test]
fn after_a_lost_acknowledgement_the_generation_decides_whether_to_read_again() {
    for answers in [
        || vec![Err(lost())],
        || vec![],
        || vec![Err(Errno::ENOMEM.into())],
        || vec![Ok(answer(9, 0, "", 0)[..18].to_vec())],
    ] as [fn() -> Answers; 4]
    {
        let error = commit_unanswered(answers, Some(8));
        assert!(
            matches!(error, BackendError::Interrupted { .. }),
            "{error:?}"
        );
        let error = commit_unanswered(answers, Some(7));
        let BackendError::Io { doing, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(doing, "committing to nf_tables");
        let error = commit_unanswered(answers, None);
        assert!(
            error.to_string().contains("cannot be determined"),
            "{error}"
        );
    }
}

#[test]
fn the_remaining_acknowledgement_counts_if_others_are_lost() {
    let refused = |sent: &Sent| {
        let (sequence, _) = sent.find("owner");
        vec![
            Err(lost()),
            Ok(answer(sequence, Errno::EINVAL as i32, "", 0)),
        ]
    };
    let error = commit(refused).unwrap_err();
    assert!(
        matches!(error, BackendError::OwnerRefused { .. }),
        "{error:?}"
    );
    commit(|_| vec![Err(lost()), Ok(answer(9, 0, "", 0))]).unwrap();
}

#[test]
fn a_missing_reply_is_an_error() {
    let error = commit(|_| vec![]).unwrap_err();
    assert!(matches!(error, BackendError::Io { .. }), "{error:?}");
}

#[test]
fn a_refusal_names_the_rule_and_repeats_the_kernels_words() {
    let busy = |sent: &Sent| {
        let (sequence, _) = sent.find("owner");
        vec![
            Ok(answer(sequence, Errno::EBUSY as i32, "not now", 0)),
            Ok(answer(99, 0, "", 0)),
        ]
    };
    let error = commit(busy).unwrap_err();
    assert_eq!(
        error.to_string(),
        "adding \"-A ISTIO_OUTPUT -m owner --uid-owner 1337 -m comment \
         --comment \"istio/bypass-envoy\" -j RETURN\" to IPv4 table nat: \
         Device or resource busy (not now)"
    );
}

/// A kernel whose table `nat` has a base chain OUTPUT with a managed rule, and its replies.
fn with_output(commit: impl FnMut(&Sent) -> Answers) -> impl FnMut(&Sent) -> Answers {
    with_used_output(std::iter::repeat(1), commit)
}

/// The same, with this use count of the chain.
fn with_used_output(
    mut uses: impl Iterator<Item = u32>,
    mut commit: impl FnMut(&Sent) -> Answers,
) -> impl FnMut(&Sent) -> Answers {
    move |sent| {
        let sequence = sent.sequence();
        let described = match sent.kind() {
            NFNL_MSG_BATCH_BEGIN => return commit(sent),
            GET_GENERATION => return vec![Ok(generation(sequence, 7))],
            GET_TABLE => table(sequence),
            GET_CHAIN => described(NFT_MSG_NEWCHAIN, sequence, |w| {
                w.string(NFTA_CHAIN_TABLE, "nat");
                w.string(NFTA_CHAIN_NAME, "OUTPUT");
                w.nest(NFTA_CHAIN_HOOK, |w| {
                    w.u32(NFTA_HOOK_HOOKNUM, libc::NF_INET_LOCAL_OUT as u32);
                    w.u32(NFTA_HOOK_PRIORITY, -100i32 as u32);
                });
                w.u32(NFTA_CHAIN_POLICY, libc::NF_ACCEPT as u32);
                w.string(NFTA_CHAIN_TYPE, "nat");
                w.u32(NFTA_CHAIN_USE, uses.next().unwrap());
            }),
            _ => described(NFT_MSG_NEWRULE, sequence, |w| {
                w.string(NFTA_RULE_TABLE, "nat");
                w.string(NFTA_RULE_CHAIN, "OUTPUT");
                w.u64(NFTA_RULE_HANDLE, 5);
            }),
        };
        vec![Ok(described), Ok(done(sequence))]
    }
}

fn described(number: u16, sequence: u32, fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut w = Writer::default();
    w.message(message_type(number), MULTI, sequence, |w| {
        w.raw(&[libc::NFPROTO_IPV4 as u8, 0, 0, 0]);
        fill(w);
    });
    w.as_slice().to_vec()
}

#[test]
fn an_empty_chain_in_use_elsewhere_is_left_in_place() {
    let mut commits = 0;
    let kernel = with_output(|sent| {
        commits += 1;
        let removed = message_type(NFT_MSG_DELCHAIN);
        let removal = sent
            .messages()
            .into_iter()
            .find(|(kind, ..)| *kind == removed);
        match removal {
            Some((_, sequence, _)) => vec![Ok(answer(sequence, Errno::EBUSY as i32, "", 0))],
            None => vec![Ok(answer(9, 0, "", 0))],
        }
    });
    let mut backend = played(kernel, usize::MAX);
    let observed = backend.read().unwrap();
    let mut change = change(0);
    let table = &mut change.tables[0];
    table.rewrite.clear();
    table.base[0].tail.clear();
    table.base[0].delete = observed.tables[0].chains[0].rules.clone();
    backend.commit(&change).unwrap();
    drop(backend);
    assert_eq!(commits, 2);
}

/// Uncommitted rules of another program are counted, but not returned.
#[test]
fn a_chain_that_shows_less_than_it_counts_is_read_again() {
    let uses = [3, 2, 2, 1];
    let kernel = with_used_output(uses.into_iter(), |_| vec![]);
    let mut backend = played(kernel, usize::MAX);
    for _ in 0..3 {
        let error = backend.read().unwrap_err();
        assert!(
            matches!(error, BackendError::Interrupted { .. }),
            "{error:?}"
        );
    }
    backend.read().unwrap();
}

#[test]
fn an_unknown_extension_is_named() {
    let missing = |sent: &Sent| {
        let (sequence, at) = sent.find("owner");
        // The list element begins with its own header, the expression's name with its header, the
        // data's and the extension's name's.
        let element = at - 4 - 4 - "match\0\0\0".len() - 4 - 4;
        vec![Ok(answer(sequence, Errno::ENOENT as i32, "", element))]
    };
    match commit(missing).unwrap_err() {
        BackendError::Missing { feature, .. } => {
            assert_eq!(feature, Feature::Xt("owner".to_owned()));
        }
        error => panic!("{error:?}"),
    }
}

#[test]
fn no_permission_is_not_an_absent_feature() {
    let error = commit(|_| vec![Ok(answer(0, Errno::EPERM as i32, "", 0))]).unwrap_err();
    assert!(
        matches!(error, BackendError::NotPermitted { .. }),
        "{error:?}"
    );
    let error = read(|s| vec![Ok(answer(s.sequence(), Errno::EPERM as i32, "", 0))]).unwrap_err();
    assert!(
        matches!(error, BackendError::NotPermitted { .. }),
        "{error:?}"
    );
}

#[test]
fn a_kernel_without_nf_tables_is_reported() {
    let unknown = |s: &Sent| vec![Ok(answer(s.sequence(), Errno::EINVAL as i32, "", 0))];
    match read(unknown).unwrap_err() {
        BackendError::Missing { feature, .. } => assert_eq!(feature, Feature::NfTables),
        error => panic!("{error:?}"),
    }
}

#[test]
fn a_commit_during_a_dump_means_to_read_again() {
    let mut now = 7;
    let moving = move |sent: &Sent| match sent.kind() {
        GET_GENERATION => {
            now += 1;
            vec![Ok(generation(sent.sequence(), now))]
        }
        GET_TABLE => vec![Ok(table(sent.sequence())), Ok(done(sent.sequence()))],
        _ => vec![Ok(done(sent.sequence()))],
    };
    let error = read(moving).unwrap_err();
    assert!(
        matches!(error, BackendError::Interrupted { .. }),
        "{error:?}"
    );
}

#[test]
fn a_table_that_goes_during_a_dump_means_to_read_again() {
    let read_at = |later: u32| {
        let mut now = 7;
        let going = move |sent: &Sent| match sent.kind() {
            GET_GENERATION => {
                let answers = vec![Ok(generation(sent.sequence(), now))];
                now = later;
                answers
            }
            GET_TABLE => vec![Ok(table(sent.sequence())), Ok(done(sent.sequence()))],
            _ => vec![Ok(answer(sent.sequence(), Errno::ENOENT as i32, "", 0))],
        };
        read(going).unwrap_err()
    };
    let error = read_at(8);
    assert!(
        matches!(error, BackendError::Interrupted { .. }),
        "{error:?}"
    );
    let error = read_at(7);
    assert!(matches!(error, BackendError::Refused { .. }), "{error:?}");
}

#[test]
fn a_truncated_dump_is_an_error() {
    let dump = |answers: fn(u32) -> Answers| {
        read(move |sent| match sent.kind() {
            GET_GENERATION => vec![Ok(generation(sent.sequence(), 7))],
            _ => answers(sent.sequence()),
        })
        .unwrap_err()
    };
    let error = dump(|_| vec![]);
    assert!(matches!(error, BackendError::Io { .. }), "{error:?}");
    let error = dump(|_| vec![Err(Errno::EMSGSIZE.into())]);
    assert!(matches!(error, BackendError::Io { .. }), "{error:?}");
    let error = dump(|_| vec![Err(lost())]);
    assert!(
        matches!(error, BackendError::Interrupted { .. }),
        "{error:?}"
    );
    let error = dump(|s| vec![Ok(message(NLMSG_DONE, MULTI | 0x10, s, &[0; 4]))]);
    assert!(
        matches!(error, BackendError::Interrupted { .. }),
        "{error:?}"
    );
    let error = dump(|s| vec![Ok(done(s)[..18].to_vec())]);
    assert!(matches!(error, BackendError::Io { .. }), "{error:?}");
}

proptest! {
    /// Whatever comes instead of a dump: no panic, and an end.
    #[test]
    fn any_bytes_are_read_or_refused(
        datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8),
        kinds in prop::collection::vec(message_type(NFT_MSG_NEWTABLE)..=GET_GENERATION, 8),
        native in any::<bool>(),
    ) {
        let kernel = |sent: &Sent| {
            let sequence = sent.sequence();
            if sent.kind() == GET_GENERATION {
                return vec![Ok(generation(sequence, 7))];
            }
            let framed = |(d, kind): (&Vec<u8>, &u16)| Ok(message(*kind, MULTI, sequence, d));
            let mut answers: Answers = datagrams.iter().zip(&kinds).map(framed).collect();
            answers.extend(datagrams.first().cloned().map(Ok));
            answers.push(Ok(done(sequence)));
            answers
        };
        let mut backend = played(kernel, usize::MAX);
        backend.kind = if native { TableKind::Native } else { TableKind::Xt };
        let _ = backend.read();
    }
}
