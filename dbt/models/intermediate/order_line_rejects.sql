{{ config(materialized='view', schema='STAGING') }}

with rejected as (
    select
        source_system,
        reject_reason,
        gross_amount,
        _source_hash,
        _source_row
    from {{ ref('int_order_lines') }}
    where reject_reason is not null
),

raw_lines as (
    select * from {{ source('raw', 'order_lines') }}
)

select
    rejected.reject_reason,
    rejected.gross_amount,
    raw_lines.*
from rejected
inner join raw_lines
    on
        rejected.source_system = raw_lines._source_system
        and rejected._source_hash = raw_lines._source_hash
        and rejected._source_row = raw_lines._source_row
