-- What frontends show of the catalog: a text, and data of the business's own system, which the service does not read.
SET LOCAL ROLE holdfast_owner;

ALTER TABLE booking.businesses
  ADD COLUMN description text,
  ADD COLUMN metadata jsonb,
  ADD CONSTRAINT businesses_description_check CHECK (octet_length(description) <= 4096),
  ADD CONSTRAINT businesses_metadata_check CHECK (jsonb_typeof(metadata) = 'object');
ALTER TABLE booking.services
  ADD COLUMN description text,
  ADD COLUMN metadata jsonb,
  ADD CONSTRAINT services_description_check CHECK (octet_length(description) <= 4096),
  ADD CONSTRAINT services_metadata_check CHECK (jsonb_typeof(metadata) = 'object');
ALTER TABLE booking.resources
  ADD COLUMN description text,
  ADD COLUMN metadata jsonb,
  ADD CONSTRAINT resources_description_check CHECK (octet_length(description) <= 4096),
  ADD CONSTRAINT resources_metadata_check CHECK (jsonb_typeof(metadata) = 'object');
