//! What a child process that examines a plugin answers, after a file has perhaps taken it over.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|written: &[u8]| {
    match convgroups_host::fuzzing::examiner_answer(written) {
        Ok((problem, again)) => {
            assert!(problem.is_none_or(|problem| !problem.is_empty()));
            let (_, same) = convgroups_host::fuzzing::examiner_answer(&again).expect("an answer that was written");
            assert_eq!(again, same, "what was read is written as it was");
        }
        Err(reason) => assert!(!reason.is_empty()),
    }
});
