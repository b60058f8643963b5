//! For fuzzing: the server without connections.

use axum::Router;

use crate::server::Server;

/// What answers a server's requests.
pub fn router(server: &Server) -> Router {
    server.router.clone()
}
