pub(super) async fn serve() {}
