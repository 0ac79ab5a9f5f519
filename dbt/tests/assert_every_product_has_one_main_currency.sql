-- Clicks are counted on that row and no other.
select
    source_system,
    product_id
from {{ ref('product_performance') }}
group by source_system, product_id
having count_if(is_main_currency) <> 1 or count_if(is_main_currency <> (product_views is not null)) > 0
