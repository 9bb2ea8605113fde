-- The table of SQL Server into which the asset esios_demand/demand_forecast_esios loads, and a user with the rights that
-- the loader needs. The loader itself never creates or alters a table. Run this as an administrator of the database:
--
--     sqlcmd -S server -d energy -v LoaderPassword="..." -i docker/demand_forecast_esios.sql

CREATE TABLE dbo.demand_forecast_esios (
    name             nvarchar(200) NOT NULL, -- Spanish name of the series
    id               bigint        NOT NULL, -- number of the series at ESIOS, 460
    datetime         datetime2(0)  NOT NULL, -- start of the hour, UTC
    demand_forecast  float(53)     NOT NULL, -- MW
    update_timestamp datetime2(0)  NOT NULL, -- update of the series at ESIOS, UTC
    CONSTRAINT demand_forecast_esios_key PRIMARY KEY (id, datetime)
);
GO

CREATE LOGIN esios_loader WITH PASSWORD = N'$(LoaderPassword)';
CREATE USER esios_loader FOR LOGIN esios_loader;
GRANT SELECT, INSERT, UPDATE ON dbo.demand_forecast_esios TO esios_loader;
GO
