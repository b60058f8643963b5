//! The store contract suite, over every backend.

mod memory {
    use convgroups_tests::TestStore;

    convgroups_tests::store_contract!(TestStore::memory());
}

mod sqlite {
    use convgroups_tests::TestStore;

    convgroups_tests::store_contract!(TestStore::sqlite());
}

mod postgres {
    use convgroups_tests::TestStore;

    convgroups_tests::store_contract!(TestStore::postgres());
}

mod pooled_postgres {
    use convgroups_tests::TestStore;

    convgroups_tests::store_contract!(TestStore::pooled_postgres());
}
