//! Converts errors of the kernel: which rule, which extension, which feature.

use super::batch::Batch;
use super::dump;
use super::encode::{Operation, Origin, Unsupported};
use super::expr::Expr;
use crate::netfilter::backend::{BackendError, Feature};
use crate::netfilter::netlink::{Attributes, Error, Nack};
use nix::errno::Errno;

/// A failed dump or read of the generation.
pub(super) fn of_read(fault: Error) -> BackendError {
    let doing = "reading nf_tables".to_owned();
    match fault {
        // The error of nfnetlink without nf_tables.
        Error::Refused(r) if matches!(r.errno, Errno::EINVAL | Errno::EOPNOTSUPP) => {
            BackendError::Missing {
                doing,
                feature: Feature::NfTables,
            }
        }
        fault => plain(doing, fault),
    }
}

/// A change that cannot be encoded.
pub(super) fn of_encode(Unsupported { origin, reason }: Unsupported) -> BackendError {
    let doing = origin.to_string();
    match reason.is_taken() {
        true => BackendError::Taken {
            doing,
            reason: reason.to_string(),
        },
        false => BackendError::Refused {
            doing,
            reason: reason.to_string(),
        },
    }
}

/// Managed rules may be hidden in a chain.
pub(super) fn of_hidden(table: &dump::Table, chain: &dump::Chain) -> BackendError {
    BackendError::Refused {
        doing: format!("reading chain {} of table {}", chain.name, table.head.name),
        reason: format!(
            "the kernel shows {} of its {} rules: one of the others is too large for it to be shown (more than 32 KiB), \
             so that it cannot be determined whether managed rules are there. Split that rule, or move it to a chain of its own",
            chain.rules.len(),
            chain.rules.len() + chain.hidden as usize,
        ),
    }
}

/// Whether a commit failed only because an empty chain or table is in use elsewhere.
pub(super) fn is_tidying(error: &Error, batch: &Batch<Origin>) -> bool {
    match error {
        Error::Refused(nack) if nack.errno == Errno::EBUSY => batch
            .find(nack.sequence)
            .is_some_and(|(origin, _)| origin.what.is_tidying()),
        _ => false,
    }
}

/// A change of `needed` bytes exceeds the `room` of one transaction.
pub(super) fn of_size(needed: usize, room: usize) -> BackendError {
    BackendError::TooLarge {
        doing: "committing to nf_tables".to_owned(),
        needed,
        room,
    }
}

/// A failed commit.
pub(super) fn of_commit(fault: Error, batch: &Batch<Origin>) -> BackendError {
    let Error::Refused(nack) = &fault else {
        return plain("committing to nf_tables".to_owned(), fault);
    };
    let Some((origin, message)) = batch.find(nack.sequence) else {
        return of_whole_commit(fault);
    };
    let doing = origin.to_string();
    match missing(nack, origin, message) {
        Some(feature) => BackendError::Missing { doing, feature },
        None if nack.errno == Errno::EINVAL && origin.what.has_owner() => {
            BackendError::OwnerRefused {
                doing,
                reason: nack.reason(),
            }
        }
        None => BackendError::Refused {
            doing,
            reason: nack.reason(),
        },
    }
}

/// The failure of a whole transaction.
fn of_whole_commit(fault: Error) -> BackendError {
    let doing = "committing to nf_tables".to_owned();
    match fault {
        Error::Refused(r) if r.errno == Errno::EOPNOTSUPP => BackendError::Missing {
            doing,
            feature: Feature::NfTables,
        },
        fault => plain(doing, fault),
    }
}

fn plain(doing: String, fault: Error) -> BackendError {
    match fault {
        Error::Refused(r) if r.errno == Errno::EPERM => BackendError::NotPermitted { doing },
        Error::Refused(r) => BackendError::Refused {
            doing,
            reason: r.reason(),
        },
        Error::Interrupted => BackendError::Interrupted { doing },
        Error::Unanswered(source) => BackendError::Io {
            doing: format!("{doing}: it cannot be determined whether it was committed"),
            source,
        },
        Error::Io(source) => BackendError::Io { doing, source },
    }
}

/// The missing kernel feature, if the kernel points at an unknown expression.
fn missing(nack: &Nack, origin: &Origin, message: &[u8]) -> Option<Feature> {
    if !matches!(nack.errno, Errno::ENOENT | Errno::EOPNOTSUPP) {
        return None;
    }
    match origin.what {
        Operation::Rule(..) => match expression_at(message, nack.offset?)? {
            Expr::Match(e) | Expr::Target(e) => Some(Feature::Xt(e.name.into_owned())),
            // A missing chain or set.
            Expr::Verdict(_) | Expr::Lookup { .. } => None,
            other => Some(Feature::Nft(other.name().to_owned())),
        },
        Operation::BaseChain(_) => Some(Feature::Nft(format!("chain of {}", origin.place))),
        _ => None,
    }
}

/// The expression at this offset of a message.
fn expression_at(message: &[u8], offset: usize) -> Option<Expr> {
    let (_, element) = Attributes::new(message.get(offset..)?).next()?.ok()?;
    Expr::read(element).ok()
}
