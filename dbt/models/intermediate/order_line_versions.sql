{{ config(materialized='view', schema='STAGING') }}

select
    source_system,
    order_id,
    source_line_number as line_number,
    order_line_key,
    order_line_key is not null as is_chosen,
    coalesce(reject_reason, 'latest') as reason,
    updated_at,
    order_status,
    quantity,
    unit_price,
    line_discount_amount as discount_amount,
    currency,
    _source_file,
    _source_hash,
    _source_row
from {{ ref('int_order_lines') }}
where delivery_count > 1 and is_readable
