;; Says that its answer is where there is no memory.
(func $attack (param $name i32) (param $name_len i32) (param $ids i32) (param $count i32) (result i32)
  (i32.const -4))
