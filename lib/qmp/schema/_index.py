# SPDX-License-Identifier: BSD-2-Clause
"""Where every name of the schema is. Made by `make schema`: do not edit.

The names of a module are one text: a dictionary of them all takes longer to load than the rest of the package.
"""

from typing import Final

_NAMES: Final = {
    "accelerator": "Accelerator AcceleratorInfo KvmInfo QueryAccelerators QueryKvm XAccelStats",
    "acpi": "ACPIOSTInfo ACPISlotType AcpiDeviceOstEvent QueryAcpiOspmStatus",
    "acpi_hest": "InjectGhesV2Error",
    "audio": (
        "AudioFormat Audiodev AudiodevAlsaOptions AudiodevAlsaPerDirectionOptions AudiodevCoreaudioOptions "
        "AudiodevCoreaudioPerDirectionOptions AudiodevDBusOptions AudiodevDriver AudiodevDsoundOptions "
        "AudiodevGenericOptions AudiodevJackOptions AudiodevJackPerDirectionOptions AudiodevOssOptions "
        "AudiodevOssPerDirectionOptions AudiodevPaOptions AudiodevPaPerDirectionOptions AudiodevPerDirectionOptions "
        "AudiodevPipewireOptions AudiodevPipewirePerDirectionOptions AudiodevSdlOptions "
        "AudiodevSdlPerDirectionOptions AudiodevSndioOptions AudiodevWavOptions QueryAudiodevs"
    ),
    "authz": (
        "AuthZListFileProperties AuthZListProperties AuthZPAMProperties AuthZSimpleProperties QAuthZListFormat "
        "QAuthZListPolicy QAuthZListRule"
    ),
    "block_core": (
        "BackupCommon BackupPerf BitmapSyncMode BlkdebugEvent BlkdebugIOType BlkdebugInjectErrorOptions "
        "BlkdebugSetStateOptions BlockCommit BlockDeviceInfo BlockDeviceIoStatus BlockDeviceStats "
        "BlockDeviceTimedStats BlockDirtyBitmap BlockDirtyBitmapAdd BlockDirtyBitmapClear BlockDirtyBitmapDisable "
        "BlockDirtyBitmapEnable BlockDirtyBitmapMerge BlockDirtyBitmapOrStr BlockDirtyBitmapRemove "
        "BlockDirtyBitmapSha256 BlockDirtyInfo BlockErrorAction BlockIOThrottle BlockImageCorruptedEvent BlockInfo "
        "BlockIoErrorEvent BlockJobCancel BlockJobCancelledEvent BlockJobChange BlockJobChangeOptions "
        "BlockJobChangeOptionsMirror BlockJobComplete BlockJobCompletedEvent BlockJobDismiss BlockJobErrorEvent "
        "BlockJobFinalize BlockJobInfo BlockJobInfoMirror BlockJobPause BlockJobPendingEvent BlockJobReadyEvent "
        "BlockJobResume BlockJobSetSpeed BlockLatencyHistogramInfo BlockLatencyHistogramSet BlockLimitsInfo "
        "BlockNodeInfo BlockPermission BlockResize BlockSetIoThrottle BlockSetWriteThreshold BlockStats "
        "BlockStatsSpecific BlockStatsSpecificFile BlockStatsSpecificNvme BlockStream BlockWriteThresholdEvent "
        "BlockdevAdd BlockdevAioOptions BlockdevAmendOptions BlockdevAmendOptionsLUKS BlockdevAmendOptionsQcow2 "
        "BlockdevBackup BlockdevCacheInfo BlockdevCacheOptions BlockdevChangeMedium BlockdevChangeReadOnlyMode "
        "BlockdevChild BlockdevCloseTray BlockdevCreate BlockdevCreateOptions BlockdevCreateOptionsFile "
        "BlockdevCreateOptionsGluster BlockdevCreateOptionsLUKS BlockdevCreateOptionsNfs "
        "BlockdevCreateOptionsParallels BlockdevCreateOptionsQcow BlockdevCreateOptionsQcow2 BlockdevCreateOptionsQed "
        "BlockdevCreateOptionsRbd BlockdevCreateOptionsSsh BlockdevCreateOptionsVdi BlockdevCreateOptionsVhdx "
        "BlockdevCreateOptionsVmdk BlockdevCreateOptionsVpc BlockdevDel BlockdevDetectZeroesOptions "
        "BlockdevDiscardOptions BlockdevDriver BlockdevInsertMedium BlockdevMirror BlockdevOnError BlockdevOpenTray "
        "BlockdevOptions BlockdevOptionsBlkdebug BlockdevOptionsBlklogwrites BlockdevOptionsBlkreplay "
        "BlockdevOptionsBlkverify BlockdevOptionsCbw BlockdevOptionsCor BlockdevOptionsCurlBase "
        "BlockdevOptionsCurlFtp BlockdevOptionsCurlFtps BlockdevOptionsCurlHttp BlockdevOptionsCurlHttps "
        "BlockdevOptionsFile BlockdevOptionsGenericCOWFormat BlockdevOptionsGenericFormat BlockdevOptionsGluster "
        "BlockdevOptionsGlusterBranch BlockdevOptionsIoUring BlockdevOptionsIscsi BlockdevOptionsLUKS "
        "BlockdevOptionsNVMe BlockdevOptionsNbd BlockdevOptionsNfs BlockdevOptionsNfsBranch BlockdevOptionsNull "
        "BlockdevOptionsNvmeIoUring BlockdevOptionsPreallocate BlockdevOptionsQcow BlockdevOptionsQcow2 "
        "BlockdevOptionsQuorum BlockdevOptionsRaw BlockdevOptionsRbd BlockdevOptionsRbdBranch "
        "BlockdevOptionsReplication BlockdevOptionsSsh BlockdevOptionsSshBranch BlockdevOptionsThrottle "
        "BlockdevOptionsVVFAT BlockdevOptionsVirtioBlkVfioPci BlockdevOptionsVirtioBlkVhostUser "
        "BlockdevOptionsVirtioBlkVhostVdpa BlockdevQcow2Encryption BlockdevQcow2EncryptionAes "
        "BlockdevQcow2EncryptionFormat BlockdevQcow2EncryptionLuks BlockdevQcow2Version BlockdevQcowEncryption "
        "BlockdevQcowEncryptionAes BlockdevQcowEncryptionFormat BlockdevRef BlockdevRefOrNull BlockdevRemoveMedium "
        "BlockdevReopen BlockdevSetActive BlockdevSnapshot BlockdevSnapshotDeleteInternalSync "
        "BlockdevSnapshotInternal BlockdevSnapshotInternalSync BlockdevSnapshotSync BlockdevVhdxSubformat "
        "BlockdevVmdkAdapterType BlockdevVmdkSubformat BlockdevVpcSubformat ChangeBackingFile DeviceTrayMovedEvent "
        "DriveBackup DriveMirror Eject ImageInfo ImageInfoSpecific ImageInfoSpecificFile ImageInfoSpecificFileWrapper "
        "ImageInfoSpecificKind ImageInfoSpecificLUKSWrapper ImageInfoSpecificQCow2 ImageInfoSpecificQCow2Encryption "
        "ImageInfoSpecificQCow2EncryptionBase ImageInfoSpecificQCow2EncryptionLuks ImageInfoSpecificQCow2Wrapper "
        "ImageInfoSpecificRbd ImageInfoSpecificRbdWrapper ImageInfoSpecificVmdk ImageInfoSpecificVmdkWrapper "
        "IscsiHeaderDigest IscsiTransport MirrorCopyMode MirrorSyncMode NFSServer NFSTransport NewImageMode "
        "OnCbwError PRManagerInfo PrManagerStatusChangedEvent PreallocMode Qcow2BitmapInfo Qcow2BitmapInfoFlags "
        "Qcow2CompressionType Qcow2OverlapCheckFlags Qcow2OverlapCheckMode Qcow2OverlapChecks QueryBlock "
        "QueryBlockJobs QueryBlockstats QueryNamedBlockNodes QueryPrManagers QuorumFailureEvent QuorumOpType "
        "QuorumReadPattern QuorumReportBadEvent RbdAuthMode RbdEncryptionCreateOptions RbdEncryptionCreateOptionsLUKS "
        "RbdEncryptionCreateOptionsLUKS2 RbdEncryptionCreateOptionsLUKSBase RbdEncryptionOptions "
        "RbdEncryptionOptionsLUKS RbdEncryptionOptionsLUKS2 RbdEncryptionOptionsLUKSAny RbdEncryptionOptionsLUKSBase "
        "RbdImageEncryptionFormat ReplicationMode SnapshotInfo SshHostKeyCheck SshHostKeyCheckHashType "
        "SshHostKeyCheckMode SshHostKeyHash ThrottleGroupProperties ThrottleLimits VmdkExtentInfo XBlockdevAmend "
        "XBlockdevChange XBlockdevSetIothread XDbgBlockGraph XDbgBlockGraphEdge XDbgBlockGraphNode "
        "XDbgBlockGraphNodeType XDebugBlockDirtyBitmapSha256 XDebugQueryBlockGraph"
    ),
    "block_export": (
        "BlockExportAdd BlockExportDel BlockExportDeletedEvent BlockExportInfo BlockExportIothreads "
        "BlockExportOptions BlockExportOptionsFuse BlockExportOptionsNbd BlockExportOptionsNbdBase "
        "BlockExportOptionsVduseBlk BlockExportOptionsVhostUserBlk BlockExportRemoveMode BlockExportType "
        "FuseExportAllowOther NbdServerAdd NbdServerAddOptions NbdServerOptionsBase NbdServerOptionsLegacy "
        "NbdServerRemove NbdServerStart NbdServerStop QueryBlockExports"
    ),
    "char": (
        "ChardevAdd ChardevBackend ChardevBackendInfo ChardevBackendKind ChardevChange ChardevCommon "
        "ChardevCommonWrapper ChardevDBus ChardevDBusWrapper ChardevFile ChardevFileWrapper ChardevHostdev "
        "ChardevHostdevWrapper ChardevHub ChardevHubWrapper ChardevInfo ChardevMux ChardevMuxWrapper ChardevPty "
        "ChardevPtyWrapper ChardevQemuVDAgent ChardevQemuVDAgentWrapper ChardevRemove ChardevReturn ChardevRingbuf "
        "ChardevRingbufWrapper ChardevSendBreak ChardevSocket ChardevSocketWrapper ChardevSpiceChannel "
        "ChardevSpiceChannelWrapper ChardevSpicePort ChardevSpicePortWrapper ChardevStdio ChardevStdioWrapper "
        "ChardevUdp ChardevUdpWrapper ChardevVC ChardevVCEncoding ChardevVCWrapper DataFormat QueryChardev "
        "QueryChardevBackends RingbufRead RingbufWrite VserportChangeEvent"
    ),
    "common": "GrabToggleKeys HostMemPolicy HumanReadableText IoOperationType NetFilterDirection OnOffAuto StrOrNull",
    "control": "CommandInfo QMPCapability QmpCapabilities QueryCommands QueryVersion Quit VersionInfo VersionTriple",
    "crypto": (
        "QCryptoBlockAmendOptions QCryptoBlockAmendOptionsLUKS QCryptoBlockAmendOptionsLuksBranch "
        "QCryptoBlockCreateOptions QCryptoBlockCreateOptionsLUKS QCryptoBlockCreateOptionsLuksBranch "
        "QCryptoBlockCreateOptionsQcow QCryptoBlockFormat QCryptoBlockInfoLUKS QCryptoBlockInfoLUKSSlot "
        "QCryptoBlockLUKSKeyslotState QCryptoBlockOptionsBase QCryptoBlockOptionsLUKS QCryptoBlockOptionsQCow "
        "QCryptoCipherAlgo QCryptoCipherMode QCryptoHashAlgo QCryptoIVGenAlgo QCryptoSecretFormat "
        "QCryptoTLSCredsEndpoint SecretCommonProperties SecretKeyringProperties SecretProperties "
        "TlsCredsAnonProperties TlsCredsProperties TlsCredsPskProperties TlsCredsX509Properties"
    ),
    "cryptodev": (
        "QCryptodevBackendClient QCryptodevBackendServiceType QCryptodevBackendType QCryptodevInfo QueryCryptodev"
    ),
    "cxl": (
        "CXLCommonEventBase CXLDRAMEvent CXLGeneralMediaEvent CXLMemModuleEvent CXLUncorErrorRecord "
        "CxlAddDynamicCapacity CxlCorErrorType CxlDynamicCapacityExtent CxlEventLog CxlExtentRemovalPolicy "
        "CxlExtentSelectionPolicy CxlInjectCorrectableError CxlInjectDramEvent CxlInjectGeneralMediaEvent "
        "CxlInjectMemoryModuleEvent CxlInjectPoison CxlInjectUncorrectableErrors CxlReleaseDynamicCapacity "
        "CxlUncorErrorType"
    ),
    "dump": (
        "DumpCompletedEvent DumpGuestMemory DumpGuestMemoryCapability DumpGuestMemoryFormat DumpQueryResult "
        "DumpStatus QueryDump QueryDumpGuestMemoryCapability"
    ),
    "ebpf": "EbpfObject EbpfProgramID RequestEbpf",
    "introspect": (
        "JSONType QueryQmpSchema SchemaInfo SchemaInfoAlternate SchemaInfoAlternateMember SchemaInfoArray "
        "SchemaInfoBuiltin SchemaInfoCommand SchemaInfoEnum SchemaInfoEnumMember SchemaInfoEvent SchemaInfoObject "
        "SchemaInfoObjectMember SchemaInfoObjectVariant SchemaMetaType"
    ),
    "job": (
        "JobCancel JobComplete JobDismiss JobFinalize JobInfo JobPause JobResume JobStatus JobStatusChangeEvent "
        "JobType QueryJobs"
    ),
    "machine": (
        "Balloon BalloonChangeEvent BalloonInfo CompatProperty CpuDefinitionInfo CpuInfoFast CpuInfoS390 "
        "CpuInstanceProperties CpuModelBaselineInfo CpuModelCompareInfo CpuModelCompareResult CpuModelExpansionInfo "
        "CpuModelExpansionType CpuModelInfo CurrentMachineParams DumpSkeys Dumpdtb FirmwareLog GuidInfo "
        "HmatCacheAssociativity HmatCacheWritePolicy HmatLBDataType HmatLBMemoryHierarchy HotpluggableCPU "
        "HvBalloonDeviceInfo HvBalloonDeviceInfoWrapper HvBalloonInfo HvBalloonStatusReportEvent InjectNmi "
        "MachineInfo MemUnplugErrorEvent Memdev MemoryDeviceInfo MemoryDeviceInfoKind MemoryDeviceSizeChangeEvent "
        "MemoryInfo Memsave NumaCpuOptions NumaDistOptions NumaHmatCacheOptions NumaHmatLBOptions NumaNodeOptions "
        "NumaOptions NumaOptionsType PCDIMMDeviceInfo PCDIMMDeviceInfoWrapper Pmemsave QemuTargetInfo QueryBalloon "
        "QueryCpuDefinitions QueryCpuModelBaseline QueryCpuModelComparison QueryCpuModelExpansion QueryCpusFast "
        "QueryCurrentMachine QueryFirmwareLog QueryHotpluggableCpus QueryHvBalloonStatusReport QueryMachines "
        "QueryMemdev QueryMemoryDevices QueryMemorySizeSummary QueryTarget QueryUuid QueryVmGenerationId S390CpuState "
        "SetNumaNode SgxEPCDeviceInfo SgxEPCDeviceInfoWrapper SpMemDeviceInfo SpMemDeviceInfoWrapper SysEmuTarget "
        "SystemPowerdown SystemReset SystemWakeup UuidInfo VirtioMEMDeviceInfo VirtioMEMDeviceInfoWrapper "
        "VirtioPMEMDeviceInfo VirtioPMEMDeviceInfoWrapper XQueryInterruptControllers XQueryIrq XQueryJit XQueryNuma "
        "XQueryOpcount XQueryProfile XQueryRamblock XQueryRdma XQueryRoms XQueryUsb"
    ),
    "machine_common": "S390CpuEntitlement",
    "machine_s390x": (
        "CpuPolarizationChangeEvent CpuPolarizationInfo QueryS390xCpuPolarization S390CpuPolarization "
        "SclpCpiInfoAvailableEvent SetCpuTopology"
    ),
    "migration": (
        "BitmapMigrationBitmapAlias BitmapMigrationBitmapAliasTransform BitmapMigrationNodeAlias COLOExitReason "
        "COLOMode COLOStatus CalcDirtyRate CancelVcpuDirtyLimit ColoExitEvent CompressionStats DirtyLimitInfo "
        "DirtyRateInfo DirtyRateMeasureMode DirtyRateStatus DirtyRateVcpu FileMigrationArgs MigMode Migrate "
        "MigrateCancel MigrateContinue MigrateIncoming MigratePause MigrateRecover MigrateSetCapabilities "
        "MigrateSetParameters MigrateStartPostcopy MigrationAddress MigrationAddressRdma MigrationAddressSocket "
        "MigrationAddressSocketFd MigrationAddressSocketInet MigrationAddressSocketUnix MigrationAddressSocketVsock "
        "MigrationAddressType MigrationCapability MigrationCapabilityStatus MigrationChannel MigrationChannelType "
        "MigrationEvent MigrationExecCommand MigrationInfo MigrationParameters MigrationPassEvent MigrationRAMStats "
        "MigrationStats MigrationStatus MigrationThreadInfo MultiFDCompression QueryColoStatus QueryDirtyRate "
        "QueryMigrate QueryMigrateCapabilities QueryMigrateParameters QueryMigrationthreads QueryVcpuDirtyLimit "
        "QueryXenReplicationStatus ReplicationStatus SetVcpuDirtyLimit SnapshotDelete SnapshotLoad SnapshotSave "
        "TimeUnit UnplugPrimaryEvent VfioStats XBZRLECacheStats XColoLostHeartbeat XenColoDoCheckpoint "
        "XenLoadDevicesState XenSaveDevicesState XenSetGlobalDirtyLog XenSetReplication ZeroPageDetection"
    ),
    "misc": (
        "AddClient AddFd AddfdInfo Closefd CommandLineOptionInfo CommandLineParameterInfo CommandLineParameterType "
        "Cont FdsetFdInfo FdsetInfo GetWin32Socket Getfd HumanMonitorCommand IOThreadInfo NameInfo "
        "QueryCommandLineOptions QueryFdsets QueryIothreads QueryName RemoveFd RtcChangeEvent Stop "
        "VfuClientHangupEvent XExitPreconfig"
    ),
    "misc_arm": "GICCapability QueryGicCapabilities",
    "misc_i386": (
        "EvtchnInfo EvtchnPortType QuerySev QuerySevAttestationReport QuerySevCapabilities QuerySevLaunchMeasure "
        "QuerySgx QuerySgxCapabilities RtcResetReinjection SevAttestationReport SevCapability SevGuestInfo "
        "SevGuestType SevInfo SevInjectLaunchSecret SevLaunchMeasureInfo SevSnpGuestInfo SevState SgxEpcSection "
        "SgxInfo XenEventInject XenEventList"
    ),
    "net": (
        "AFXDPMode AnnounceParameters AnnounceSelf FailoverNegotiatedEvent NetClientDriver NetLegacyNicOptions Netdev "
        "NetdevAFXDPOptions NetdevAdd NetdevBridgeOptions NetdevDel NetdevDgramOptions NetdevHubPortOptions "
        "NetdevL2TPv3Options NetdevNetmapOptions NetdevPasstOptions NetdevSocketOptions NetdevStreamConnectedEvent "
        "NetdevStreamDisconnectedEvent NetdevStreamOptions NetdevTapOptions NetdevUserDomainSuffix "
        "NetdevUserGuestForward NetdevUserHostForward NetdevUserOptions NetdevVdeOptions "
        "NetdevVhostUserConnectedEvent NetdevVhostUserDisconnectedEvent NetdevVhostUserOptions NetdevVhostVDPAOptions "
        "NetdevVmnetBridgedOptions NetdevVmnetHostOptions NetdevVmnetSharedOptions NicRxFilterChangedEvent "
        "PasstParameter PasstPortForward PasstSearch QueryRxFilter RxFilterInfo RxState SetLink"
    ),
    "pci": (
        "PciBridgeInfo PciBusInfo PciDeviceClass PciDeviceId PciDeviceInfo PciInfo PciMemoryRange PciMemoryRegion "
        "QueryPci"
    ),
    "qdev": "DeviceAdd DeviceDel DeviceDeletedEvent DeviceListProperties DeviceSyncConfig DeviceUnplugGuestErrorEvent",
    "qga": (
        "GuestAgentCommandInfo GuestAgentInfo GuestAuthorizedKeys GuestCCWAddress GuestCpuStats GuestCpuStatsType "
        "GuestDeviceId GuestDeviceIdPCI GuestDeviceInfo GuestDeviceType GuestDiskAddress GuestDiskBusType "
        "GuestDiskInfo GuestDiskSmart GuestDiskStats GuestDiskStatsInfo GuestExec GuestExecCaptureOutput "
        "GuestExecCaptureOutputMode GuestExecReply GuestExecStatus GuestExecStatusReply GuestFileClose GuestFileFlush "
        "GuestFileOpen GuestFileRead GuestFileReadReply GuestFileSeek GuestFileSeekReply GuestFileWhence "
        "GuestFileWrite GuestFileWriteReply GuestFilesystemInfo GuestFilesystemTrimResponse GuestFilesystemTrimResult "
        "GuestFsfreezeFreeze GuestFsfreezeFreezeList GuestFsfreezeStatus GuestFsfreezeStatusReply GuestFsfreezeThaw "
        "GuestFstrim GuestGetCpustats GuestGetDevices GuestGetDisks GuestGetDiskstats GuestGetFsinfo GuestGetHostName "
        "GuestGetLoad GuestGetMemoryBlockInfo GuestGetMemoryBlocks GuestGetOsinfo GuestGetTime GuestGetTimezone "
        "GuestGetUsers GuestGetVcpus GuestHostName GuestInfo GuestIpAddress GuestIpAddressType GuestLinuxCpuStats "
        "GuestLoadAverage GuestLogicalProcessor GuestMemoryBlock GuestMemoryBlockInfo GuestMemoryBlockResponse "
        "GuestMemoryBlockResponseType GuestNVMeSmart GuestNetworkGetInterfaces GuestNetworkGetRoute "
        "GuestNetworkInterface GuestNetworkInterfaceStat GuestNetworkRoute GuestOSInfo GuestPCIAddress GuestPing "
        "GuestSetMemoryBlocks GuestSetTime GuestSetUserPassword GuestSetVcpus GuestShutdown GuestSshAddAuthorizedKeys "
        "GuestSshGetAuthorizedKeys GuestSshRemoveAuthorizedKeys GuestSuspendDisk GuestSuspendHybrid GuestSuspendRam "
        "GuestSync GuestSyncDelimited GuestTimezone GuestUser QGASeek"
    ),
    "qom": (
        "AcpiGenericInitiatorProperties AcpiGenericPortProperties CanHostSocketcanProperties ColoCompareProperties "
        "CryptodevBackendProperties CryptodevVhostUserProperties DBusVMStateProperties EventLoopBaseProperties "
        "FilterBufferProperties FilterDumpProperties FilterMirrorProperties FilterRedirectorProperties "
        "FilterRewriterProperties IOMMUFDProperties IgvmCfgProperties InputBarrierProperties InputLinuxProperties "
        "IothreadProperties MainLoopProperties MemoryBackendEpcProperties MemoryBackendFileProperties "
        "MemoryBackendMemfdProperties MemoryBackendProperties MemoryBackendShmProperties MonitorHMPProperties "
        "MonitorProperties MonitorQMPCloseAction MonitorQMPProperties NetfilterInsert NetfilterProperties ObjectAdd "
        "ObjectDel ObjectOptions ObjectPropertiesValues ObjectPropertyInfo ObjectPropertyValue ObjectType "
        "ObjectTypeInfo PrManagerHelperProperties QomGet QomList QomListGet QomListProperties QomListTypes QomSet "
        "QtestProperties RemoteObjectProperties RngEgdProperties RngProperties RngRandomProperties "
        "SevCommonProperties SevGuestProperties SevSnpGuestProperties TdxGuestProperties ThreadContextProperties "
        "VfioUserServerProperties"
    ),
    "rdma": "RdmaGidStatusChangedEvent",
    "replay": "QueryReplay ReplayBreak ReplayDeleteBreak ReplayInfo ReplayMode ReplaySeek",
    "rocker": (
        "QueryRocker QueryRockerOfDpaFlows QueryRockerOfDpaGroups QueryRockerPorts RockerOfDpaFlow "
        "RockerOfDpaFlowAction RockerOfDpaFlowKey RockerOfDpaFlowMask RockerOfDpaGroup RockerPort RockerPortAutoneg "
        "RockerPortDuplex RockerSwitch"
    ),
    "run_state": (
        "GuestCrashloadedEvent GuestPanicAction GuestPanicInformation GuestPanicInformationHyperV "
        "GuestPanicInformationS390 GuestPanicInformationSev GuestPanicInformationTdx GuestPanicInformationType "
        "GuestPanickedEvent GuestPvshutdownEvent MemoryFailureAction MemoryFailureEvent MemoryFailureFlags "
        "MemoryFailureRecipient PanicAction PowerdownEvent QueryStatus RebootAction ResetEvent ResumeEvent RunState "
        "S390CrashReason SetAction ShutdownAction ShutdownCause ShutdownEvent StatusInfo StopEvent SuspendDiskEvent "
        "SuspendEvent WakeupEvent WatchdogAction WatchdogEvent WatchdogSetAction"
    ),
    "sockets": (
        "FdSocketAddress FdSocketAddressWrapper InetSocketAddress InetSocketAddressBase InetSocketAddressWrapper "
        "NetworkAddressFamily SocketAddress SocketAddressFd SocketAddressInet SocketAddressLegacy SocketAddressType "
        "SocketAddressUnix SocketAddressVsock UnixSocketAddress UnixSocketAddressWrapper VsockSocketAddress "
        "VsockSocketAddressWrapper"
    ),
    "stats": (
        "QueryStats QueryStatsSchemas Stats StatsFilter StatsProvider StatsRequest StatsResult StatsSchema "
        "StatsSchemaValue StatsTarget StatsType StatsUnit StatsVCPUFilter StatsValue"
    ),
    "tpm": (
        "QueryTpm QueryTpmModels QueryTpmTypes TPMEmulatorOptions TPMEmulatorOptionsWrapper TPMInfo "
        "TPMPassthroughOptions TPMPassthroughOptionsWrapper TpmModel TpmType TpmTypeOptions"
    ),
    "trace": "TraceEventGetState TraceEventInfo TraceEventSetState TraceEventState",
    "transaction": (
        "Abort AbortWrapper ActionCompletionMode BlockDirtyBitmapAddWrapper BlockDirtyBitmapMergeWrapper "
        "BlockDirtyBitmapWrapper BlockdevBackupWrapper BlockdevSnapshotInternalWrapper BlockdevSnapshotSyncWrapper "
        "BlockdevSnapshotWrapper DriveBackupWrapper Transaction TransactionAction TransactionActionKind "
        "TransactionProperties"
    ),
    "ui": (
        "ChangeVncPassword ClientMigrateInfo DisplayCocoa DisplayCurses DisplayDBus DisplayEGLHeadless DisplayGLMode "
        "DisplayGTK DisplayOptions DisplayProtocol DisplayReload DisplayReloadOptions DisplayReloadOptionsVNC "
        "DisplayReloadType DisplaySDL DisplayType DisplayUpdate DisplayUpdateOptions DisplayUpdateOptionsVNC "
        "DisplayUpdateType ExpirePassword ExpirePasswordOptions ExpirePasswordOptionsVnc HotKeyMod ImageFormat "
        "InputAxis InputBtnEvent InputBtnEventWrapper InputButton InputEvent InputEventKind InputKeyEvent "
        "InputKeyEventWrapper InputMoveEvent InputMoveEventWrapper InputMultiTouchEvent InputMultiTouchEventWrapper "
        "InputMultiTouchType InputSendEvent IntWrapper KeyValue KeyValueKind MouseInfo QKeyCode QKeyCodeWrapper "
        "QueryDisplayOptions QueryMice QuerySpice QueryVnc QueryVncServers Screendump SendKey SetPassword "
        "SetPasswordAction SetPasswordOptions SetPasswordOptionsVnc SpiceBasicInfo SpiceChannel SpiceConnectedEvent "
        "SpiceDisconnectedEvent SpiceInfo SpiceInitializedEvent SpiceMigrateCompletedEvent SpiceQueryMouseMode "
        "SpiceServerInfo VncBasicInfo VncClientInfo VncConnectedEvent VncDisconnectedEvent VncInfo VncInfo2 "
        "VncInitializedEvent VncPrimaryAuth VncServerInfo VncServerInfo2 VncVencryptSubAuth"
    ),
    "vfio": "QapiVfioMigrationState VfioMigrationEvent",
    "virtio": (
        "VhostDeviceProtocols VhostStatus VirtQueueStatus VirtVhostQueueStatus VirtioDeviceFeatures "
        "VirtioDeviceStatus VirtioInfo VirtioQueueElement VirtioRingAvail VirtioRingDesc VirtioRingUsed VirtioStatus "
        "XQueryVirtio XQueryVirtioQueueElement XQueryVirtioQueueStatus XQueryVirtioStatus "
        "XQueryVirtioVhostQueueStatus"
    ),
    "yank": "QueryYank Yank YankInstance YankInstanceBlockNode YankInstanceChardev YankInstanceType",
}

#: The module of each name.
MODULES: Final = {name: module for module, names in _NAMES.items() for name in names.split()}
