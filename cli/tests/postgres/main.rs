//! Real processes on real PostgreSQL.
#![cfg(unix)]

mod faults;
mod moving;
mod processes;
mod startup;
