-- Who is forgotten of a source, with the salt of the hashes. Bound: 1. source.
select
    forgotten.kind,
    forgotten.identifier_hash,
    forgotten.pseudonym,
    salts.salt,
    coalesce(conventions.float_formatted_ids, false) as float_formatted_ids
from ops.forgotten_customers as forgotten
cross join governance.salts as salts
left join ops.source_conventions as conventions on forgotten.source_system = conventions.source_system
where
    salts.purpose = 'forgetting'
    and forgotten.source_system = ?
