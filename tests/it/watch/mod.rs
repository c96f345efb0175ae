//! `prepare-proxy watch`: removed rules are restored, other changes are ignored, and an idle watch
//! does nothing.

mod attacked;
mod beside;
mod faults;
mod follows;
mod quiet;
mod service;
mod takings;
mod watcher;
