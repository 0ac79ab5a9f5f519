-- The first version holds from the beginning of time, each ends where the next begins, the last is the current one.
with versions as (
    select
        product_key,
        valid_from,
        valid_to,
        is_current,
        lag(valid_to) over (partition by source_system, product_id order by valid_from) as previous_valid_to,
        row_number() over (partition by source_system, product_id order by valid_from) as place,
        lead(valid_from) over (partition by source_system, product_id order by valid_from) as next_valid_from
    from {{ ref('dim_products') }}
)

select *
from versions
where
    (place = 1 and valid_from <> {{ beginning_of_time() }})
    or (place > 1 and not equal_null(valid_from, previous_valid_to))
    or not equal_null(valid_to, next_valid_from)
    or is_current <> (valid_to is null)
    or valid_to <= valid_from
