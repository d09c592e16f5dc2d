-- When a business is open, and who may act for it.
SET LOCAL ROLE holdfast_owner;

-- Weekly hours, in the wall-clock time of the business: they stay local across a DST change. Those without a
-- resource are the business's own; a resource that has hours of its own keeps to both. No rows: always open.
CREATE TABLE booking.opening_hours (
  business_id text COLLATE "C" NOT NULL,
  position integer NOT NULL,
  resource_id text COLLATE "C",
  weekday integer NOT NULL CONSTRAINT opening_hours_weekday_check CHECK (weekday BETWEEN 1 AND 7),
  opens time NOT NULL,
  -- 24:00 is the end of the day. A night is two rows, one for each of its days.
  closes time NOT NULL CONSTRAINT opening_hours_closes_check CHECK (closes > opens),
  CONSTRAINT opening_hours_pkey PRIMARY KEY (business_id, position),
  CONSTRAINT opening_hours_business_id_fkey FOREIGN KEY (business_id) REFERENCES booking.businesses (business_id),
  CONSTRAINT opening_hours_resource_id_fkey FOREIGN KEY (business_id, resource_id)
    REFERENCES booking.resources (business_id, resource_id)
);

-- Times at which the business, or one of its resources, takes no public bookings. What is booked stays.
CREATE TABLE booking.closures (
  business_id text COLLATE "C" NOT NULL,
  closure_id text COLLATE "C" NOT NULL
    CONSTRAINT closures_closure_id_check CHECK (closure_id ~ '^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$'),
  resource_id text COLLATE "C",
  during tstzrange NOT NULL CONSTRAINT closures_during_check CHECK (NOT isempty(during) AND NOT upper_inf(during)),
  reason text,
  CONSTRAINT closures_pkey PRIMARY KEY (business_id, closure_id),
  CONSTRAINT closures_business_id_fkey FOREIGN KEY (business_id) REFERENCES booking.businesses (business_id),
  CONSTRAINT closures_resource_id_fkey FOREIGN KEY (business_id, resource_id)
    REFERENCES booking.resources (business_id, resource_id)
);

-- Closures of the past are kept, and must cost a decision nothing.
CREATE INDEX idx_closures_end ON booking.closures (business_id, upper(during));

-- Keys by which programs act for a business. Only a hash is kept: what was shown once can't be shown again.
CREATE TABLE booking.api_keys (
  business_id text COLLATE "C" NOT NULL,
  key_id text COLLATE "C" NOT NULL,
  name text NOT NULL,
  role text COLLATE "C" NOT NULL CONSTRAINT api_keys_role_check CHECK (role IN ('owner', 'staff', 'readonly')),
  sha256 bytea NOT NULL CONSTRAINT api_keys_sha256_check CHECK (length(sha256) = 32),
  created_at timestamptz NOT NULL,
  revoked_at timestamptz,
  CONSTRAINT api_keys_pkey PRIMARY KEY (business_id, key_id),
  CONSTRAINT api_keys_business_id_fkey FOREIGN KEY (business_id) REFERENCES booking.businesses (business_id)
);

-- Raised to make all calendar feeds of the business unreadable by their former secrets.
ALTER TABLE booking.businesses ADD COLUMN calendar_generation integer NOT NULL DEFAULT 1;
