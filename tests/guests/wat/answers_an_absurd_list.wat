;; Answers a list with as many results as there are numbers.
(func $attack (param $name i32) (param $name_len i32) (param $ids i32) (param $count i32) (result i32)
  (drop (call $answer (local.get $ids) (local.get $count)))
  (i32.store (i32.const 24) (i32.const -1))
  (i32.const 16))
