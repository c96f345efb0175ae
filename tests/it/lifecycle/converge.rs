//! Whatever is there: apply ends in exactly the wanted state, clean in none of it, and diff says so
//! before and after without writing anything.

use super::initial_states::{STARTS, Start};
use super::on_every_backend;
use super::recorded::{self, Recorded};
use super::world::{SOME, apply, everything, rules, run};
use crate::lab::{Namespace, same, without_comments};

/// What the options make in an empty namespace.
fn wanted(backend: &str) -> Result<String, String> {
    let fresh = Namespace::new();
    apply(&fresh, backend, SOME)?;
    Ok(rules(&fresh))
}

/// Tries every start, and tells of all that fail.
fn from_every_start(
    backend: &'static str,
    check: impl Fn(&Start, &Namespace) -> Result<(), String>,
) -> Result<(), String> {
    tell_all(STARTS.iter().filter_map(|start| {
        let namespace = Namespace::new();
        (start.make)(&namespace, backend);
        Some((start.name, check(start, &namespace).err()?))
    }))
}

#[test]
fn apply_ends_in_the_wanted_state() {
    on_every_backend(|backend| {
        let wanted = wanted(backend)?;
        from_every_start(backend, |_, namespace| {
            apply(namespace, backend, SOME)?;
            same(&wanted, &rules(namespace), "after apply")?;
            let before = everything(namespace);
            let again = apply(namespace, backend, SOME)?;
            match again.err.contains("already in place") {
                true => same(&before, &everything(namespace), "a second apply wrote"),
                false => Err(format!("the second apply did something: {}", again.err)),
            }
        })
    });
}

#[test]
fn diff_tells_what_apply_would_do_and_writes_nothing() {
    on_every_backend(|backend| {
        let line = format!("diff --backend {backend} {SOME}");
        from_every_start(backend, |start, namespace| {
            let before = everything(namespace);
            let diff = run(namespace, &line).expect(i32::from(start.differs), "diff before")?;
            if diff.out.is_empty() == start.differs {
                return Err(format!("diff says {:?}", diff.out));
            }
            same(&before, &everything(namespace), "diff wrote")?;
            apply(namespace, backend, SOME)?;
            let diff = run(namespace, &line).expect(0, "diff after")?;
            same("", &diff.out, "diff after an apply")
        })
    });
}

#[test]
fn clean_leaves_nothing_of_ours_and_needs_no_options() {
    on_every_backend(|backend| {
        from_every_start(backend, |_, namespace| {
            run(namespace, "clean").expect(0, "clean")?;
            same("", &rules(namespace), "after clean")?;
            let before = everything(namespace);
            let again = run(namespace, "clean").expect(0, "clean again")?;
            same("", &again.out, "clean is quiet")?;
            same(&before, &everything(namespace), "a second clean wrote")
        })
    });
}

#[test]
fn what_the_tools_replaced_left_gives_way() {
    let all = recorded::all();
    assert!(all.len() > 40, "{} recordings", all.len());
    on_every_backend(|backend| {
        let wanted = wanted(backend)?;
        let check = |left: &Recorded| {
            let namespace = Namespace::new();
            left.put_back(&namespace, backend);
            apply(&namespace, backend, SOME)?;
            // Only one of the tools wrote any.
            let found = without_comments(&rules(&namespace));
            same(&without_comments(&wanted), &found, "after apply")?;
            let namespace = Namespace::new();
            left.put_back(&namespace, backend);
            run(&namespace, "clean").expect(0, "clean")?;
            same("", &rules(&namespace), "after clean")
        };
        tell_all(all.iter().filter_map(|r| Some((&*r.name, check(r).err()?))))
    });
}

/// The names of all that failed, and the first few in full.
fn tell_all<'a>(failed: impl Iterator<Item = (&'a str, String)>) -> Result<(), String> {
    let failed: Vec<(&str, String)> = failed.collect();
    if failed.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = failed.iter().map(|(name, _)| *name).collect();
    let texts: Vec<String> = failed
        .iter()
        .take(2)
        .map(|(name, e)| format!("{name}: {e}"))
        .collect();
    Err(format!("{}\n\n{}", names.join(", "), texts.join("\n\n")))
}
