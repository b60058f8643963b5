//! The reference plugin answers every case file exactly, on every store.

use convgroups_tests::TestStore;
use convgroups_tests::conformance::{case_files, run};

#[test]
fn every_case_file_comes_out_exactly_as_it_is_written() {
    let files = case_files();
    assert!(files.len() >= 10, "only {} case files were found", files.len());
    let mut differing = Vec::new();
    for file in files {
        let expected = std::fs::read_to_string(&file).expect("a case file can be read");
        for (kind, store) in TestStore::all() {
            let came = run(&expected, store.store);
            if came == expected {
                continue;
            }
            if std::env::var_os("UPDATE_CASES").is_some() {
                std::fs::write(&file, &came).expect("a case file can be written");
            }
            let place = came.lines().zip(expected.lines()).position(|(came, expected)| came != expected);
            let line = |text: &str| text.lines().nth(place.unwrap_or_default()).unwrap_or("(nothing)").to_owned();
            differing.push(format!(
                "{} on {kind}, line {}:\n  expected {}\n  came     {}",
                file.display(),
                place.unwrap_or_default() + 1,
                line(&expected),
                line(&came)
            ));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}
