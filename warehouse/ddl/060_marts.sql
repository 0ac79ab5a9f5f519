-- The star schema. Keys are declared for readers and for query planning (Snowflake does not enforce them; dbt tests do).
-- Surrogate keys are MD5 hashes of the business key, so that a rebuild on any engine gives the same keys.

create table if not exists marts.dim_date (
    date_key number(8, 0) not null comment 'yyyymmdd',
    date_day date not null comment 'Calendar day in the shop''s timezone',
    year_number number(4, 0) not null comment 'Calendar year',
    quarter_number number(1, 0) not null comment 'Calendar quarter, 1 to 4',
    month_number number(2, 0) not null comment 'Calendar month, 1 to 12',
    month_name varchar not null comment 'English month name',
    month_start_date date not null comment 'First day of the month',
    day_of_month number(2, 0) not null comment '1 to 31',
    day_of_year number(3, 0) not null comment '1 to 366',
    day_of_week_iso number(1, 0) not null comment '1 (Monday) to 7 (Sunday)',
    day_name varchar not null comment 'English weekday name',
    iso_week_number number(2, 0) not null comment 'ISO 8601 week, 1 to 53',
    iso_year_number number(4, 0) not null comment 'ISO 8601 week-numbering year',
    week_start_date date not null comment 'Monday of the ISO week',
    fiscal_year_number number(4, 0) not null comment 'Fiscal year, named after the calendar year in which it ends',
    fiscal_quarter_number number(1, 0) not null comment 'Fiscal quarter, 1 to 4',
    fiscal_month_number number(2, 0) not null comment 'Fiscal month, 1 to 12',
    is_weekend boolean not null comment 'Saturday or Sunday',
    is_month_end boolean not null comment 'Last day of its month',
    is_holiday boolean not null comment 'Public holiday in the shop''s country',
    holiday_name varchar comment 'Name of the public holiday',
    is_business_day boolean not null comment 'Neither weekend nor public holiday',
    constraint dim_date_pk primary key (date_key)
)
comment = 'Grain: one row per calendar day';

create table if not exists marts.dim_customers (
    customer_key varchar(32) not null comment 'Surrogate key of this version of the customer',
    source_system varchar comment 'Source the customer is from; NULL for the unknown member',
    customer_id varchar comment 'Customer number; NULL for the unknown member, which stands for guests',
    email varchar comment 'E-mail address',
    full_name varchar comment 'Name',
    address varchar comment 'Street and house number',
    city varchar comment 'City',
    postal_code varchar comment 'Postal code',
    country varchar comment 'Country',
    signed_up_at timestamp_ntz comment 'UTC',
    has_marketing_consent boolean comment 'Whether the customer may be written to',
    is_inferred boolean not null comment 'Known from orders, clicks or merges only; master data has not arrived',
    person_id varchar comment 'Customer number under which the person is known now, after merges; NULL for the unknown member',
    valid_from timestamp_ntz not null comment 'UTC, inclusive',
    valid_to timestamp_ntz comment 'UTC, exclusive; NULL for the current version',
    is_current boolean not null comment 'Latest version of the customer',
    constraint dim_customers_pk primary key (customer_key)
)
cluster by (customer_id)
comment = 'Type 2. Grain: one row per version of a customer, and one unknown member';

create table if not exists marts.dim_products (
    product_key varchar(32) not null comment 'Surrogate key of this version of the product',
    source_system varchar comment 'Source the product is from; NULL for the unknown member',
    product_id varchar comment 'Stock code, trimmed and upper-cased; NULL for the unknown member',
    product_name varchar comment 'Name; the most frequent text on order lines where no master data exists',
    category varchar comment 'Category',
    subcategory varchar comment 'Subcategory',
    brand varchar comment 'Brand',
    list_price number(18, 4) comment 'List price of one unit',
    list_price_currency varchar(3) comment 'ISO 4217 code of the list price',
    is_active boolean comment 'Whether the product is sold',
    is_merchandise boolean not null comment 'False for codes that are no products: postage, fees, adjustments, vouchers',
    is_inferred boolean not null comment 'Known from orders or clicks only; master data has not arrived',
    valid_from timestamp_ntz not null comment 'UTC, inclusive',
    valid_to timestamp_ntz comment 'UTC, exclusive; NULL for the current version',
    is_current boolean not null comment 'Latest version of the product',
    constraint dim_products_pk primary key (product_key)
)
cluster by (product_id)
comment = 'Type 2. Grain: one row per version of a product, and one unknown member';

create table if not exists marts.fact_orders (
    order_line_key varchar(32) not null comment 'Surrogate key of the order line',
    order_id varchar not null comment 'Order number, trimmed',
    line_number number(38, 0) not null comment 'Line within the order; counted by file and row where the source has none',
    customer_key varchar(32) not null comment 'Version of the customer when the order was placed; guests: the unknown member',
    product_key varchar(32) not null comment 'Version of the product when the order was placed',
    order_date_key number(8, 0) not null comment 'Business date of the order in the shop''s timezone',
    ordered_at timestamp_ntz not null comment 'When the order was placed, UTC',
    quantity number(18, 4) not null comment 'Units; negative for returns and cancellations',
    unit_price number(18, 4) not null comment 'Price of one unit, in the order''s currency',
    gross_amount number(18, 4) not null comment 'quantity x unit_price, in the order''s currency',
    discount_amount number(18, 4) not null comment 'Discount on the line and its share of the order''s, in the order''s currency',
    order_discount_amount number(18, 4) not null comment 'That share: the order''s discount spread over its lines to the last minor unit',
    returned_amount number(18, 4) not null comment 'All of gross - discount of a line that was cancelled or returned in place; else 0',
    net_amount number(18, 4) not null comment 'gross_amount - discount_amount - returned_amount, in the order''s currency',
    currency varchar(3) not null comment 'ISO 4217 code of the order''s currency',
    reporting_currency varchar(3) not null comment 'ISO 4217 code of the shop''s own currency',
    exchange_rate number(20, 12) comment 'Units of reporting_currency for one unit of currency; NULL where no rate is known',
    exchange_rate_date date comment 'Day the rate is of: the last known one',
    exchange_rate_age_days number(38, 0) comment 'Days from that day to the order''s',
    reporting_gross_amount number(18, 4) comment 'gross_amount in reporting_currency; NULL without a rate',
    reporting_discount_amount number(18, 4) comment 'discount_amount in reporting_currency; NULL without a rate',
    reporting_returned_amount number(18, 4) comment 'returned_amount in reporting_currency; NULL without a rate',
    reporting_net_amount number(18, 4) comment 'The difference of these three; NULL without a rate',
    order_status varchar not null comment 'placed, paid, shipped, delivered, returned, cancelled, adjusted, or the source''s own word',
    is_returned boolean not null comment 'The line takes goods or money back: a return or a cancellation',
    is_merchandise boolean not null comment 'False for codes that are no products: postage, fees, adjustments, vouchers',
    country varchar comment 'Country of delivery',
    sales_channel varchar comment 'Where the order was placed',
    payment_method varchar comment 'How it was paid',
    promotion_code varchar comment 'Promotion the line took part in',
    returned_order_id varchar comment 'For a return: the order that it undoes, as the source says',
    returned_line_number number(38, 0) comment 'For a return: the line that it undoes, as the source says',
    returned_order_line_key varchar(32) comment 'For a return: the sold line that it undoes, where that is known',
    return_match varchar comment 'For a return, how it was found: stated, matched, awaited (not here yet) or none',
    returned_quantity number(18, 4) not null comment 'For a sold line: units that returns took back so far',
    delivery_count number(38, 0) not null comment 'How often the line was delivered; the latest counts',
    is_held boolean not null comment 'Held out of the business marts, see QUALITY.HELD_ORDER_LINES',
    source_system varchar not null comment 'Source mapping the line came by',
    source_file varchar not null comment 'File the line came in',
    source_row number(38, 0) not null comment 'Record of that file',
    constraint fact_orders_pk primary key (order_line_key),
    constraint fact_orders_customer_fk foreign key (customer_key) references marts.dim_customers (customer_key),
    constraint fact_orders_product_fk foreign key (product_key) references marts.dim_products (product_key),
    constraint fact_orders_date_fk foreign key (order_date_key) references marts.dim_date (date_key)
)
cluster by (order_date_key, source_system)
comment = 'Grain: one row per order line';

-- Of warehouses that are older than the gate: NULL means no.
alter table marts.fact_orders add column if not exists is_held boolean
comment 'Held out of the business marts, see QUALITY.HELD_ORDER_LINES';
