//! For fuzzing: the server without connections, and what is read from other processes.

use axum::Router;

pub use crate::plugin::examiner_answer;
use crate::server::Server;

/// What answers a server's requests.
pub fn router(server: &Server) -> Router {
    server.router.clone()
}
