{{
    config(
        materialized='replace_touched',
        meta={'keys': ['source_system', 'order_key'], 'is_working': true},
    )
}}

{%- set staged_columns = [
    'source_system', 'order_key', 'order_id', 'source_line_number', 'customer_id', 'product_id', 'product_description',
    'order_status', 'currency', 'country', 'sales_channel', 'payment_method', 'promotion_code', 'returned_order_id',
    'returned_line_number', 'quantity', 'unit_price', 'gross_amount', 'line_discount_amount',
    'stated_order_discount_amount', 'is_returned', 'is_merchandise', 'rate_source', 'order_date', 'ordered_at',
    'updated_at', 'row_reject_reason', '_source_file', '_source_hash', '_source_row',
] %}

with files as (
    select
        source_system,
        content_hash,
        is_claimed
    from {{ ref('int_files_to_transform') }}
    where entity = 'order_lines'
),

claimed as (
    select
        source_system,
        content_hash
    from files
    where is_claimed
),

file_contents as (
    select
        source_system,
        content_hash,
        is_current,
        modified_at
    from {{ ref('int_file_contents') }}
    where entity = 'order_lines'
),

conventions as (
    select
        source_system,
        non_product_pattern,
        coalesce(whole_orders, false) as has_whole_orders,
        exchange_rates_from
    from {{ source('ops', 'source_conventions') }}
),

staged as (
    select *
    from {{ ref('stg_order_lines') }}
    where _source_hash in (select claimed.content_hash from claimed)
),

-- The pattern is matched once a code, not once a line: compiling it is what costs.
product_codes as (
    select distinct
        _source_system,
        product_id
    from staged
),

merchandise as (
    select
        product_codes._source_system,
        product_codes.product_id,
        not coalesce(regexp_like(product_codes.product_id, conventions.non_product_pattern, 'i'), false)
            as is_merchandise
    from product_codes
    left join conventions on product_codes._source_system = conventions.source_system
),

arrived as (
    select
        staged._source_system as source_system,
        coalesce(staged.order_id, '') as order_key,
        staged.order_id,
        staged.line_number as source_line_number,
        staged.customer_id,
        staged.product_id,
        staged.product_description,
        staged.order_status,
        staged.currency,
        staged.country,
        staged.sales_channel,
        staged.payment_method,
        staged.promotion_code,
        staged.returned_order_id,
        staged.returned_line_number,
        staged.quantity,
        staged.unit_price,
        staged.gross_amount::number(38, 4) as gross_amount,
        staged.discount_amount as line_discount_amount,
        staged.order_discount_amount as stated_order_discount_amount,
        staged.is_returned,
        merchandise.is_merchandise,
        coalesce(conventions.exchange_rates_from, staged._source_system) as rate_source,
        staged.order_date,
        staged.ordered_at,
        staged.updated_at,
        staged.reject_reason as row_reject_reason,
        staged._source_file,
        staged._source_hash,
        staged._source_row
    from staged
    left join conventions on staged._source_system = conventions.source_system
    left join merchandise
        on
            staged._source_system = merchandise._source_system
            and equal_null(staged.product_id, merchandise.product_id)
),

{% if has_rows_to_keep() -%}
touched as (
    select
        source_system,
        order_key
    from arrived
    union
    select
        lines.source_system,
        lines.order_key
    from {{ this }} as lines
    inner join files
        on
            lines.source_system = files.source_system
            and lines._source_hash = files.content_hash
),

known as (
    select lines.*
    from {{ this }} as lines
    inner join touched
        on
            lines.source_system = touched.source_system
            and lines.order_key = touched.order_key
    left join claimed
        on
            lines.source_system = claimed.source_system
            and lines._source_hash = claimed.content_hash
    where claimed.content_hash is null
),

{% endif -%}

lines as (
    select {{ staged_columns | join(', ') }}
    from arrived
    {% if has_rows_to_keep() -%}
    union all
    select {{ staged_columns | join(', ') }}
    from known
    {%- endif %}
),

-- What a line says counts when it can be read and its file has not been replaced.
standing as (
    select
        lines.*,
        lines.row_reject_reason is null as is_readable,
        file_contents.is_current,
        file_contents.modified_at as file_modified_at,
        lines.row_reject_reason is null and file_contents.is_current as is_valid,
        coalesce(conventions.has_whole_orders, false) as has_whole_orders
    from lines
    inner join file_contents
        on
            lines.source_system = file_contents.source_system
            and lines._source_hash = file_contents.content_hash
    left join conventions on lines.source_system = conventions.source_system
),

-- Where a file has orders whole, only the latest one with an order says what is in it.
in_force as (
    select
        *,
        iff(
            has_whole_orders,
            first_value(_source_hash) over (
                partition by source_system, order_key, is_valid
                order by
                    updated_at desc nulls last, file_modified_at desc nulls last, _source_file desc, _source_hash desc
            ),
            _source_hash
        ) as whole_order_hash,
        first_value(_source_file) over (
            partition by source_system, order_key, is_valid
            order by updated_at desc nulls last, file_modified_at desc nulls last, _source_file desc, _source_hash desc
        ) as whole_order_file,
        is_valid and _source_hash = whole_order_hash as is_in_force
    from standing
),

-- A numbered line delivered twice is one line: what the source changed last, then the file that was changed last, then
-- the later file by name, then the later record. Few lines are, and only those have to be put in order.
repeated as (
    select
        source_system,
        order_key,
        source_line_number,
        count(*) as delivery_count
    from in_force
    where is_readable and source_line_number is not null
    group by source_system, order_key, source_line_number
    having count(*) > 1
),

versions as (
    select
        in_force.source_system,
        in_force._source_hash,
        in_force._source_row,
        repeated.delivery_count,
        row_number() over (
            partition by
                in_force.source_system, in_force.order_key, in_force.source_line_number, in_force.is_in_force
            order by
                in_force.updated_at desc nulls last, in_force.file_modified_at desc nulls last,
                in_force._source_file desc, in_force._source_row desc, in_force._source_hash desc
        ) as version_rank,
        first_value(in_force._source_file) over (
            partition by
                in_force.source_system, in_force.order_key, in_force.source_line_number, in_force.is_in_force
            order by
                in_force.updated_at desc nulls last, in_force.file_modified_at desc nulls last,
                in_force._source_file desc, in_force._source_row desc, in_force._source_hash desc
        ) as latest_file,
        first_value(in_force._source_row) over (
            partition by
                in_force.source_system, in_force.order_key, in_force.source_line_number, in_force.is_in_force
            order by
                in_force.updated_at desc nulls last, in_force.file_modified_at desc nulls last,
                in_force._source_file desc, in_force._source_row desc, in_force._source_hash desc
        ) as latest_row
    from in_force
    inner join repeated
        on
            in_force.source_system = repeated.source_system
            and in_force.order_key = repeated.order_key
            and in_force.source_line_number = repeated.source_line_number
    where in_force.is_readable
),

-- Lines without a number are all different; they are counted by file and record, after those that have one.
highest_numbers as (
    select
        source_system,
        order_key,
        max(source_line_number) as highest_line_number
    from in_force
    where is_in_force and source_line_number is not null
    group by source_system, order_key
),

unnumbered as (
    select
        source_system,
        _source_hash,
        _source_row,
        row_number() over (
            partition by source_system, order_key order by _source_file, _source_row, _source_hash
        ) as place
    from in_force
    where is_in_force and source_line_number is null
),

ranked as (
    select
        in_force.*,
        versions.version_rank,
        versions.latest_file,
        versions.latest_row,
        coalesce(versions.delivery_count, 1) as delivery_count,
        coalesce(highest_numbers.highest_line_number, 0) + unnumbered.place as counted_line_number
    from in_force
    left join versions
        on
            in_force.source_system = versions.source_system
            and in_force._source_hash = versions._source_hash
            and in_force._source_row = versions._source_row
    left join unnumbered
        on
            in_force.source_system = unnumbered.source_system
            and in_force._source_hash = unnumbered._source_hash
            and in_force._source_row = unnumbered._source_row
    left join highest_numbers
        on
            in_force.source_system = highest_numbers.source_system
            and in_force.order_key = highest_numbers.order_key
),

resolved as (
    select
        *,
        case
            when row_reject_reason is not null then row_reject_reason
            when not is_current then 'superseded: ' || _source_file || ' was delivered again with other content'
            when not is_in_force then 'superseded by ' || whole_order_file || ', the latest file with this order'
            when version_rank > 1
                then 'superseded by record ' || latest_row || ' of ' || latest_file
        end as reject_reason,
        case
            when reject_reason is not null then null
            when source_line_number is not null then source_line_number
            else counted_line_number
        end as line_number,
        case
            when reject_reason is not null then null
            when source_line_number is not null
                then {{ surrogate_key(['source_system', 'order_id', 'source_line_number::varchar']) }}
            else {{ surrogate_key(['source_system', 'order_id', "'row'", '_source_hash', '_source_row::varchar']) }}
        end as order_line_key
    from ranked
),

{{ order_discount_shares('resolved') }},

discounted as (
    select
        resolved.*,
        coalesce(order_discount_shares.order_discount_amount, 0)::number(18, 4) as order_discount_amount,
        (resolved.line_discount_amount + coalesce(order_discount_shares.order_discount_amount, 0))::number(18, 4)
            as discount_amount
    from resolved
    left join order_discount_shares on resolved.order_line_key = order_discount_shares.order_line_key
)

-- A sold line that was cancelled or returned in place takes back all it came to; one that takes back what another line
-- sold is negative itself.
select
    {{ staged_columns | join(', ') }},
    {{ date_key('order_date') }} as order_date_key,
    order_discount_amount,
    discount_amount,
    (
        iff(is_returned and quantity > 0 and gross_amount > discount_amount, gross_amount - discount_amount, 0)
    )::number(38, 4) as returned_amount,
    gross_amount - discount_amount - returned_amount as net_amount,
    is_readable,
    delivery_count,
    line_number,
    order_line_key,
    reject_reason
from discounted
