//! `prepare-proxy watch`: what others take away comes back, what they do besides is left alone, and
//! where nothing happens nothing is done.

mod attacked;
mod beside;
mod faults;
mod follows;
mod quiet;
mod service;
mod takings;
mod watcher;
