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
    raw_lines.order_id,
    raw_lines.line_number,
    raw_lines.order_status,
    raw_lines.ordered_at,
    raw_lines.customer_id,
    raw_lines.product_id,
    raw_lines.product_description,
    raw_lines.quantity,
    raw_lines.unit_price,
    raw_lines.discount_amount,
    raw_lines.currency,
    raw_lines.country,
    raw_lines.sales_channel,
    raw_lines.payment_method,
    raw_lines.promotion_code,
    raw_lines.returned_order_id,
    raw_lines.returned_line_number,
    raw_lines.updated_at,
    raw_lines._source_system,
    raw_lines._source_file,
    raw_lines._source_hash,
    raw_lines._source_row,
    raw_lines._batch_id,
    raw_lines._ingested_at
from rejected
inner join raw_lines
    on
        rejected.source_system = raw_lines._source_system
        and rejected._source_hash = raw_lines._source_hash
        and rejected._source_row = raw_lines._source_row
