;; A function that calls itself by way of the component's own border, whoever calls: what it exports, it imports again.
(component
  (core module $inside
    (type $function (func))
    (table (export "table") 1 funcref)
    (func (export "descend") (call_indirect (type $function) (i32.const 0))))
  (core instance $inside (instantiate $inside))
  (alias core export $inside "descend" (core func $descend))
  (func $exported (canon lift (core func $descend)))
  (core func $imported (canon lower (func $exported)))
  (core module $closes
    (import "" "table" (table 1 funcref))
    (import "" "descend" (func $descend))
    (elem (i32.const 0) func $descend)
    (start $descend))
  (core instance (instantiate $closes (with "" (instance
    (export "table" (table $inside "table"))
    (export "descend" (func $imported)))))))
