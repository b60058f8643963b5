;; Answers neither a success nor a refusal, of which every answer is one.
(func $attack (param $name i32) (param $name_len i32) (param $ids i32) (param $count i32) (result i32)
  (drop (call $answer (local.get $ids) (local.get $count)))
  (i32.store8 (i32.const 16) (i32.const 2))
  (i32.const 16))
