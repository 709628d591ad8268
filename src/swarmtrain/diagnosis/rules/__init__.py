"""The rules, one module a family. `diagnosis.table` has their order."""
