//! Real processes on real PostgreSQL.
#![cfg(unix)]

mod faults;
mod processes;
mod startup;
