use convgroups_host::api::{
    ConversationFilter, CreateConversationGroup, DeleteConversationGroup, DeleteConversationsFromGroup,
    GetConversationListByFilter,
};
use convgroups_host::{Failure, Host, SqliteStore, UserId};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let store = SqliteStore::open(directory.path().join("groups.db"))?;
    // Compiles the plugin; `Settings::cache_dir` keeps it for the next start. A host is cheap to clone and to share.
    let host = Host::builder().store(store).build()?;

    let alice = UserId::new("alice")?;
    host.call(&alice, &CreateConversationGroup::new("Work", ["c2c_bob", "group_42"]))?;

    // Returns when the change is on disk.
    let reply = host.call(&alice, &DeleteConversationsFromGroup::new("Work", ["c2c_bob", "c2c_eve"]))?;
    for result in reply.result {
        println!("{}: {} {}", result.conversation_id, result.result_code, result.result_info);
    }

    // Whose failure it was is a matter of types.
    match host.call(&alice, &DeleteConversationGroup::new("Family")).map_err(|error| error.failure) {
        Err(Failure::Refused(refusal)) => assert_eq!(refusal.code, 51009),
        Err(Failure::Plugin(fault)) => eprintln!("the plugin failed: {fault}"),
        Err(Failure::Host(fault)) => eprintln!("the host failed: {fault}"),
        Ok(_) => unreachable!("there is no such group"),
    }

    let first_page = GetConversationListByFilter::new(ConversationFilter::default(), 0, 100);
    let page = host.call(&alice, &first_page)?.result;
    assert_eq!(page.conversation_list[0].conversation_id, "group_42");
    Ok(())
}
