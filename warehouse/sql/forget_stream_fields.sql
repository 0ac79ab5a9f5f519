-- Fields that a mapping does not have any more. Bound: 1. source, 2. hash of the mapping file.
delete from ops.stream_mappings
where source_system = ? and mapping_hash <> ?
