//! Targets that are plain verdicts, the same in both encodings.

use super::expr::{Expr, Verdict};
use crate::netfilter::model::{ChainName, Target};

/// Encodes a target as a verdict, if it is one.
pub(super) fn write(target: &Target) -> Option<Verdict> {
    match target {
        Target::Accept => Some(Verdict::Accept),
        Target::Drop => Some(Verdict::Drop),
        Target::Return => Some(Verdict::Return),
        Target::Jump(chain) => Some(Verdict::Jump(chain.as_str().to_owned())),
        _ => None,
    }
}

/// Decodes a verdict; `goto` is not in the model.
pub(super) fn read(verdict: &Verdict) -> Option<Target> {
    match verdict {
        Verdict::Accept => Some(Target::Accept),
        Verdict::Drop => Some(Target::Drop),
        Verdict::Return => Some(Target::Return),
        Verdict::Jump(chain) => ChainName::new(chain).ok().map(Target::Jump),
        Verdict::Goto(_) => None,
    }
}

/// The chain that a rule jumps or goes to.
pub(super) fn jump(exprs: &[Expr]) -> Option<ChainName> {
    exprs.iter().find_map(|e| match e {
        Expr::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => ChainName::new(chain).ok(),
        _ => None,
    })
}
