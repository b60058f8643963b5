//! For fuzzing: the server without connections.

use axum::Router;

use crate::Server;

/// Returns what handles a server's requests.
pub fn router(server: &Server) -> Router {
    server.router.clone()
}
