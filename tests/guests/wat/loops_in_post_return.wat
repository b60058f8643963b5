;; Answers as it should, and never returns when it is told to clean up after the answer.
(func $attack (param $name i32) (param $name_len i32) (param $ids i32) (param $count i32) (result i32)
  (global.set $armed (i32.const 1))
  (call $answer (local.get $ids) (local.get $count)))
(func (export "cabi_post_im:conversation-groups/operations@0.1.0#delete-conversations-from-group") (param i32)
  (if (global.get $armed) (then (loop $again (br $again)))))
